"""An election that leads in this process, views of its state, and another worker in a separate process."""

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
async def leading(pool: Pool, *, version: str | None = None, patient: bool = True) -> AsyncIterator[Election]:
    """An election that leads from the begin of the scope; at its end the whole history is judged.

    version: name of a job that only workers of this version have. patient: see ``patience``.
    """
    begun.clear()
    election = election_on(pool.url, version=version, patient=patient, **pool.options)
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
    """Number of its runs that began in this process."""
    return sum(run.job_id == job_id for run in begun)


async def passes(job_id: str = "other", times: int = 3) -> None:
    """Return when the job has run that many more times: the leader is well, and time has passed."""
    before = count(job_id)
    await until_async(lambda: count(job_id) >= before + times, what=f"{job_id} runs")


async def stands_still(job_id: str) -> bool:
    """Whether it does not run while another does."""
    before = count(job_id)
    await passes()
    return count(job_id) == before


async def stored(ledger: Ledger, job_id: str) -> JobState:
    """State of the job in the ledger."""
    [found] = [job for job in await ledger.jobs(removed=True) if job.id == job_id]
    return found


async def state(pool: Pool) -> State:
    """State of the pool for a new reader."""
    ledger = pool.ledger()
    try:
        found = await ledger.changes()
    finally:
        await ledger.close()
    assert found is not None
    return found


async def done(pool: Pool, request: int) -> None:
    """Return when the request is completed."""

    async def gone() -> bool:
        return request not in [asked.id for asked in (await state(pool)).requests]

    await until_async(gone, what=f"request {request} is done")


async def ended(ledger: Ledger, job_id: str, number: int = 1) -> list[RunRow]:
    """The job's runs, latest first, once there are that many and all have ended."""

    async def found() -> list[RunRow]:
        runs = await ledger.runs(job_id=job_id)
        return runs if len(runs) == number and all(run.outcome for run in runs) else []

    return await until_async(found, what=f"{number} runs of {job_id} have ended")


async def pause_and_resume(ledger: Ledger, job_id: str) -> None:
    """Wait until others have run meanwhile, and assert that it has not."""
    await ledger.pause(job_id, True)
    await until_async(lambda: stands_still(job_id), what=f"{job_id} is paused")
    before = count(job_id)
    await passes()
    assert count(job_id) == before
    await ledger.pause(job_id, False)
    await until_async(lambda: count(job_id) > before, what=f"{job_id} runs again")


class Other:
    """Another worker in a separate process; ``begin`` starts it, ``end`` stops it.

    version: name of a job that only workers of this version have.
    """

    def __init__(self, pool: Pool, *, version: str | None = None) -> None:
        self._pool = pool
        self._version = version
        self.patient = True
        """See ``patience``."""
        self._process: RemoteWorker | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def begin(self) -> str:
        """Return whether it leads or follows, as soon as one is true."""
        own = {"version": self._version, "patient": self.patient}
        options = {"url": self._pool.url, "options": {**self._pool.options, **own}}
        self._process = await asyncio.to_thread(self._pool.fork, JOBS, options)
        return str(await asyncio.to_thread(self._process.ask, "role"))

    async def ask(self, name: str, *words: Any, **arguments: Any) -> Any:
        """Call that method of its ``Election``; an error is returned as text."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.ask, "call", method=name, words=words, arguments=arguments)

    def end(self) -> None:
        """``kill -9``; returns when the process has ended."""
        if self._process is not None:
            self._process.kill()
            until(self._process.gone)
