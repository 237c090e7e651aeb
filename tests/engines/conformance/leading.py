"""An election that leads in this process, what can be seen of it, and another worker in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg  # noqa: F401  at import, as an application does, and not while a loop runs

from election import Election
from election.schedule.history import RunRow
from election.schedule.ledger import Ledger
from election.schedule.model import JobState, State
from election.schedule.verify import verify
from tests.engines.conformance.jobs import begun, election_on
from tests.engines.conformance.pool import Pool
from tests.support.judge import Fact, violations
from tests.support.processes import RemoteWorker
from tests.support.waiting import until, until_async

JOBS = "tests.engines.conformance.jobs"


@asynccontextmanager
async def leading(pool: Pool, *, version: str | None = None) -> AsyncIterator[Election]:
    """An election that leads as the scope begins; at its end the whole history is judged.

    version: name of a job that only workers of this version have.
    """
    begun.clear()
    election = election_on(pool.url, version=version, **pool.options)
    await asyncio.to_thread(election.check)
    async with election:
        await until_async(lambda: election.is_leader and bool(count("often")), what="it leads, and runs")
        yield election
    ledger = pool.ledger()
    try:
        report = await verify(ledger, now=datetime.now(UTC))
    finally:
        await ledger.close()
    assert (report.violations, report.unchecked) == ((), ())
    assert report.ticks > 0
    assert violations(Fact(0, 0, "begin", 0, run.job_id, run.key, run.attempt) for run in begun) == []


def count(job_id: str) -> int:
    """How often this process has begun it."""
    return sum(run.job_id == job_id for run in begun)


async def passes(job_id: str = "other", times: int = 3) -> None:
    """Return when the job has run so many times more: the leader is well, and time has passed."""
    before = count(job_id)
    await until_async(lambda: count(job_id) >= before + times, what=f"{job_id} runs")


async def stands_still(job_id: str) -> bool:
    """Whether it does not run while another does."""
    before = count(job_id)
    await passes()
    return count(job_id) == before


async def stored(ledger: Ledger, job_id: str) -> JobState:
    """What the ledger knows of the job."""
    [found] = [job for job in await ledger.jobs(removed=True) if job.id == job_id]
    return found


async def state(pool: Pool) -> State:
    """How things stand, for somebody who looks for the first time."""
    ledger = pool.ledger()
    try:
        found = await ledger.changes()
    finally:
        await ledger.close()
    assert found is not None
    return found


async def done(pool: Pool, request: int) -> None:
    """Return when nothing of the request is left to do."""

    async def gone() -> bool:
        return request not in [asked.id for asked in (await state(pool)).requests]

    await until_async(gone, what=f"request {request} is done")


async def ended(ledger: Ledger, job_id: str, number: int = 1) -> list[RunRow]:
    """The job's runs, latest first, once there are so many, and all have ended."""

    async def found() -> list[RunRow]:
        runs = await ledger.runs(job_id=job_id)
        return runs if len(runs) == number and all(run.outcome for run in runs) else []

    return await until_async(found, what=f"{number} runs of {job_id} have ended")


async def pause_and_resume(ledger: Ledger, job_id: str) -> None:
    """Not before others have run meanwhile, and it has not."""
    await ledger.pause(job_id, True)
    await until_async(lambda: stands_still(job_id), what=f"{job_id} is paused")
    before = count(job_id)
    await passes()
    assert count(job_id) == before
    await ledger.pause(job_id, False)
    await until_async(lambda: count(job_id) > before, what=f"{job_id} runs again")


class Other:
    """Another worker, in a process of its own; ``begin`` it, and ``end`` it.

    version: name of a job that only workers of this version have.
    """

    def __init__(self, pool: Pool, *, version: str | None = None) -> None:
        self._pool = pool
        self._version = version
        self._process: RemoteWorker | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def begin(self) -> str:
        """Returns whether it leads or follows, once it does."""
        options = {"url": self._pool.url, "options": {**self._pool.options, "version": self._version}}
        self._process = await asyncio.to_thread(self._pool.fork, JOBS, options)
        return str(await asyncio.to_thread(self._process.ask, "role"))

    async def ask(self, name: str, *words: Any, **arguments: Any) -> Any:
        """Let it call that method of its ``Election``; an error that it raises is returned in words."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.ask, "call", method=name, words=words, arguments=arguments)

    def end(self) -> None:
        """``kill -9``; returns when it is gone."""
        if self._process is not None:
            self._process.kill()
            until(self._process.gone)
