"""The job that all systems run each second: it writes facts, and carries out faults in its process."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime
from pathlib import Path

from bench.facts import tell

SECONDS = float(os.environ.get("BENCH_JOB_SECONDS", "0"))
"""Duration of the job in seconds."""


async def tick(due: datetime | None = None) -> None:
    """Write the facts ``begin`` and ``end``, with the second for which it runs: by default the one in which it
    begins.
    """
    second = round((due or datetime.now(UTC)).timestamp())
    tell("begin", second)
    _block()
    if SECONDS:
        await asyncio.sleep(SECONDS)
    tell("end", second)


def _block() -> None:
    """Block the event loop for the number of seconds in a file, once."""
    order = Path(os.environ["BENCH_STATE"] + ".block")
    try:
        seconds = float(order.read_text())
        order.unlink()
    except FileNotFoundError:
        return
    tell("blocked", seconds)
    time.sleep(seconds)
