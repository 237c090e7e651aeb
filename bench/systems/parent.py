"""The scheduler in the parent process, and Uvicorn's workers below it: ``python -m bench.systems.parent PORT``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator

import uvicorn
from apscheduler.schedulers.background import BackgroundScheduler
from fastapi import FastAPI

from bench.facts import tell

from .job import tick


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    tell("ready")
    yield


app = FastAPI(lifespan=lifespan)


def main() -> None:
    scheduler = BackgroundScheduler()
    scheduler.add_job(lambda: asyncio.run(tick()), "cron", second="*", coalesce=True, max_instances=1)
    scheduler.start()
    tell("leads")
    workers = int(os.environ["BENCH_WORKERS"])
    uvicorn.run("bench.systems.parent:app", port=int(sys.argv[1]), workers=workers, log_level="warning")


if __name__ == "__main__":
    main()
