"""A file lock that every worker polls every ``BENCH_POLL`` seconds, as filelock itself waits."""

from __future__ import annotations

import asyncio
import os

from filelock import FileLock, Timeout

from . import scheduler
from .serving import campaigning

POLL = float(os.environ["BENCH_POLL"])
lock = FileLock(os.environ["BENCH_STATE"], thread_local=False)


async def campaign() -> None:
    while True:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            await asyncio.sleep(POLL)
        else:
            break
    scheduler.start()


app = campaigning(campaign)
