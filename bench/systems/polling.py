"""A file lock that every worker tries again after ``BENCH_POLL`` seconds, as filelock itself waits."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from fastapi import FastAPI
from filelock import FileLock, Timeout

from bench.facts import tell

from . import scheduler

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


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    task = asyncio.create_task(campaign())
    tell("ready")
    yield
    task.cancel()


app = FastAPI(lifespan=lifespan)
