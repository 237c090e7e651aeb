"""The job that all systems run each second: it tells what it does, and does to its process what was ordered."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime
from pathlib import Path

from bench.facts import tell

SECONDS = float(os.environ.get("BENCH_JOB_SECONDS", "0"))
"""How long the job takes."""


async def tick(due: datetime | None = None) -> None:
    """Told as ``begin`` and ``end``, with the second for which it runs: the one in which it begins, if nobody tells."""
    second = round((due or datetime.now(UTC)).timestamp())
    tell("begin", second)
    _block()
    if SECONDS:
        await asyncio.sleep(SECONDS)
    tell("end", second)


def _block() -> None:
    """Stop the event loop for so many seconds as a file orders, once."""
    order = Path(os.environ["BENCH_STATE"] + ".block")
    try:
        seconds = float(order.read_text())
        order.unlink()
    except FileNotFoundError:
        return
    tell("blocked", seconds)
    time.sleep(seconds)
