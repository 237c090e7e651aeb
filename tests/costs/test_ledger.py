"""Cost of a term and of a tick in the ledger: transactions, statements, and waits for the disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import datetime, timedelta
from pathlib import Path
from sqlite3 import connect  # the real one, also while statements are counted
from typing import Any
from unittest import mock

import pytest

from election import Election
from election.engines.file import backend
from election.schedule import term_scheduler
from tests.costs.counting import Statements, syncs
from tests.support.waiting import until_async

pytestmark = [pytest.mark.anyio, pytest.mark.extended]

BURST = 1000

MARGINS = (10, 30, 90)
"""Seconds that the planning may take, the least first."""


@pytest.fixture(autouse=True)
def nothing_else_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a previous leader there is no lock file elsewhere to look up."""
    monkeypatch.setattr(backend, "SETTLE_HEARTBEATS", 0.0)


def soon(seconds: float = 1.0) -> datetime:
    return datetime.now() + timedelta(seconds=seconds)


def later() -> datetime:
    """In another test."""
    return datetime.now() + timedelta(hours=1)


async def tick() -> None:
    """A job."""


@asynccontextmanager
async def leading(pool: Path, jobs: int, due: datetime, **options: Any) -> AsyncIterator[Election]:
    """An election that leads, and polls the ledger once a minute; its jobs fall due together, at ``due``."""
    election = Election(pool, heartbeat=60.0, stalled_after=180.0, **options)
    for number in range(jobs):
        election.scheduled_job("date", run_date=due, id=f"job {number}")(tick)
    async with election:
        await until_async(lambda: _leads(election))
        yield election


async def _leads(election: Election) -> bool:
    """Whether the work of its term runs, the record shows it, and all jobs are planned."""
    record, scheduler = (await election._engine.seat.observe()).record, election._scheduler
    begun = election.is_leader and record is not None and record.takeover.takeover_ms is not None
    return begun and scheduler is not None and not scheduler._jobs.pending


async def settled(pool: Path, runs: int) -> None:
    with closing(connect(pool / "ledger.db")) as connection:
        await until_async(
            lambda: connection.execute("SELECT count(*) FROM runs WHERE outcome = 'succeeded'").fetchone()[0] == runs,
            what=f"{runs} runs have ended",
        )


def of_ticks(statements: Statements) -> list[list[str]]:
    """Transactions that claimed or settled something."""
    return [*statements.of("INSERT INTO runs"), *statements.of("UPDATE runs")]


async def test_a_tick(pool: Path) -> None:
    """One transaction claims it, another settles it; the statements include those of triggers."""
    with Statements().counted() as statements:
        async with leading(pool, 1, soon()):
            await settled(pool, 1)
            claim, settle = of_ticks(statements)
    assert len(claim) <= 6, claim
    assert len(settle) <= 11, settle


async def test_a_burst(pool: Path) -> None:
    """Ticks that are due together are claimed together and, if they end together, settled together."""
    for seconds in MARGINS:
        pool = pool.with_name(f"{seconds} seconds")
        with Statements().counted() as statements:
            async with leading(pool, BURST, due := soon(seconds)):
                if is_planned := datetime.now() < due:
                    await settled(pool, BURST)
                    found = of_ticks(statements)
        if is_planned:
            break
    assert is_planned, "all are planned before they fall due, or each slice would be a burst"
    assert len(found) <= 4
    assert sum(map(len, found)) <= 9 * BURST + 4 * len(found)


async def test_the_start_of_a_term(pool: Path) -> None:
    """It opens the ledger, reads twice and writes once, whatever the number of known jobs."""
    due = later()
    async with leading(pool, 100, due):
        pass
    with Statements().counted() as statements:
        async with leading(pool, 100, due):
            begun = list(statements.transactions)
    assert len(begun) <= 4, begun
    assert len(statements.of("BEGIN IMMEDIATE")) <= 2, "to begin and to end"
    assert sum(map(len, begun)) <= 24, begun


@pytest.mark.parametrize("durable", [False, True])
async def test_how_often_the_disk_is_waited_for(pool: Path, durable: bool) -> None:
    """Once for the number of a term; for its ticks only if claims have to survive a power cut.

    SQLite waits in each commit that has written when ``synchronous`` is FULL, and in none when it is NORMAL; the number
    of commits of a tick is counted above.
    """
    async with leading(pool, 1, later()):
        pass
    with syncs() as waited, Statements().counted() as statements:
        async with leading(pool, 1, soon(), durable=durable):
            await settled(pool, 1)
            how = [each for opened in statements.of("synchronous") for each in opened if "synchronous" in each]
    assert how == [f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}"]
    assert waited == ["_DATASYNC"]


async def test_how_often_a_new_pool_waits(pool: Path) -> None:
    """More often than a used one, for the names of its directories and of the file with the number; and never for
    heartbeats.
    """
    with syncs() as waited:
        async with leading(pool, 1, later()) as election:
            for _ in range(10):
                await election._engine.seat.beat()
    assert Counter(waited) == {"_DATASYNC": 1, "fsync": 3}


async def test_one_more_job_among_many(pool: Path) -> None:
    """The leader reads the added job, and plans that one."""
    election = Election(pool, heartbeat=0.05)
    for number in range(300):
        election.scheduled_job("date", run_date=later(), id=f"job {number}")(tick)
    async with election:
        await until_async(lambda: _leads(election))
        scheduler = election._scheduler
        assert scheduler is not None

        async def add(name: str) -> None:
            await election.add_job(f"{__name__}:nothing", "date", run_date=later(), id=name)
            jobs = scheduler._jobs
            await until_async(lambda: name in jobs.progress and not jobs.pending, what="it is planned")

        await add("the first")  # the leader reads once more the jobs that it has registered itself
        with mock.patch.object(term_scheduler, "make_plan", wraps=term_scheduler.make_plan) as planned:
            await add("one more")
    assert [set(call.args[0]) for call in planned.call_args_list] == [{"one more"}]


def nothing() -> None:
    """Do nothing."""
