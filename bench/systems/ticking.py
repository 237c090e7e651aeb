"""Many interval jobs that only measure their lateness, in an application that also answers requests.

``BENCH_KIND``: ``ours``; ``bare``, an ``AsyncIOScheduler`` with its memory job store; ``stored``, the same with its
SQLAlchemy job store on SQLite, as durable as ours. ``BENCH_JOBS`` jobs run each ``BENCH_EVERY`` seconds, the first at
``BENCH_ANCHOR`` (seconds since the epoch); the others at the same time, or spread evenly over the time between if
``BENCH_SPREAD``.

Results are read on request (``GET /marks``): a file that each job writes to would be measured too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from apscheduler.jobstores.base import BaseJobStore
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from fastapi import FastAPI
from sqlalchemy import create_engine, event

from bench.facts import tell
from election import Election
from election.engines.file.ledger import SqliteLedger

KIND = os.environ["BENCH_KIND"]
JOBS = int(os.environ["BENCH_JOBS"])
EVERY = float(os.environ["BENCH_EVERY"])
ANCHOR = float(os.environ["BENCH_ANCHOR"])
STEP = EVERY / JOBS if os.environ.get("BENCH_SPREAD") else 0.0
STATE = Path(os.environ["BENCH_STATE"])

logging.disable(logging.WARNING)

_marks: list[tuple[float, float]] = []
"""Due time of a job in seconds since the epoch, and its lateness in seconds."""

_settling: set[asyncio.Task[None]] = set()


async def job(number: int) -> None:
    """It computes its due time from the known schedule, without its scheduler."""
    now = time.time()
    late = (now - ANCHOR - number * STEP) % EVERY
    _marks.append((now - late, late))
    if KIND == "ours" and not STEP and len(_marks) % JOBS == 0:
        task = asyncio.get_running_loop().create_task(_settled(now - late))
        _settling.add(task)
        task.add_done_callback(_settling.discard)


async def _settled(due: float) -> None:
    """Record when all ends of a burst are in the ledger."""
    ledger = SqliteLedger(str(STATE / "ledger.db"), look_only=True)
    while True:
        if not await ledger.open_runs():
            break
        await asyncio.sleep(0.001)
    tell("settled", f"{due} {time.time() - due}")
    await ledger.close()


def _begins(number: int) -> datetime:
    return datetime.fromtimestamp(ANCHOR, UTC) + timedelta(seconds=number * STEP)


@contextlib.asynccontextmanager
async def _ours() -> AsyncIterator[None]:
    election = Election(STATE, scheduler_options={"timezone": "UTC"})
    for number in range(JOBS):
        election.scheduled_job("interval", seconds=EVERY, start_date=_begins(number), args=[number], id=str(number))(
            job
        )
    leads = asyncio.Event()

    @election.while_leading
    async def lead() -> None:
        leads.set()

    async with election:
        await leads.wait()
        yield


@contextlib.asynccontextmanager
async def _apscheduler() -> AsyncIterator[None]:
    if KIND == "stored":
        engine = create_engine(f"sqlite:///{STATE}.sqlite")
        event.listen(engine, "connect", _as_durable_as_ours)
        scheduler = _filled(SQLAlchemyJobStore(engine=engine))
    else:
        scheduler = _filled(MemoryJobStore())
    scheduler.resume()
    try:
        yield
    finally:
        scheduler.shutdown(wait=False)


def _as_durable_as_ours(connection: sqlite3.Connection, _: object) -> None:
    """By default the store waits for the disk twice for each tick, and blocks the event loop meanwhile."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _filled(store: BaseJobStore) -> AsyncIOScheduler:
    """With all jobs, and paused."""
    scheduler = AsyncIOScheduler(timezone="UTC", jobstores={"default": store})
    scheduler.start(paused=True)
    for number in range(JOBS):
        scheduler.add_job(
            "bench.systems.ticking:job", "interval", seconds=EVERY, start_date=_begins(number), args=[number],
            id=str(number), misfire_grace_time=30,
        )  # fmt: skip
    return scheduler


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with _ours() if KIND == "ours" else _apscheduler():
        tell("ready")
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/plain")
async def plain() -> dict[str, bool]:
    return {"ok": True}


@app.get("/marks")
async def marks() -> list[tuple[float, float]]:
    return _marks
