"""Workers that never lead, on every engine."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from election import Election
from election.core.errors import ElectionError
from tests.engines.conformance.engines import patience
from tests.engines.conformance.pool import Pool
from tests.support.waiting import until_async

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def election_on(pool: Pool, **options: Any) -> Election:
    with patience():
        return Election(pool.url, heartbeat=0.05, safety_poll=0.1, **pool.options, **options)


def observer(pool: Pool, **options: Any) -> Election:
    election = election_on(pool, candidate=False, **options)
    election.scheduled_job("interval", hours=1, id="of another application")(print)
    return election


async def document(election: Election) -> Any:
    return await election._view.document()


async def test_a_worker_that_is_no_candidate_never_leads(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither while the seat is free nor when it becomes free; it is a worker like the others, and observes the
    leader.
    """
    election, attended = observer(pool), list[None]()
    attend = election._engine.seat.backend.attend

    async def counting() -> None:
        attended.append(None)
        await attend()

    monkeypatch.setattr(election._engine.seat.backend, "attend", counting)

    async def polled(times: int = 3) -> None:
        before = len(attended)
        await until_async(lambda: len(attended) >= before + times, what="it would have tried")

    async with election:
        await polled()
        found = await document(election)
        assert (found.state, found.problem) == (
            "electing",
            "nobody leads, because every worker takes part with candidate=False; start one that may lead",
        )
        assert [(worker.pid, worker.candidate) for worker in found.workers] == [(os.getpid(), False)]
        candidate = pool.worker()
        assert candidate.wins().number == 1
        candidate.beats()
        await until_async(lambda: _led(election), what="it sees who leads")
        await until_async(lambda: _has(election, 2), what="it sees the other one")
        assert (await document(election)).problem is None, "its code is nobody's concern"
        candidate.release()
        await polled()
        assert not election.is_leader
        assert pool.worker().wins().number == 2
        with pytest.raises(ElectionError, match="candidate=False"):
            await election.wait_until_leading()


async def _led(election: Election) -> bool:
    return bool((await document(election)).state == "led")


async def _has(election: Election, count: int) -> bool:
    return len((await document(election)).workers) == count


async def test_waiting_until_it_leads(pool: Pool) -> None:
    election = election_on(pool)
    with pytest.raises(ElectionError, match="has not been started"):
        await election.wait_until_leading()
    leader = pool.worker()
    leader.wins()
    leader.beats()
    async with election:
        waiting = asyncio.create_task(election.wait_until_leading())
        await until_async(lambda: _led(election))
        assert not waiting.done()
        leader.release()
        await asyncio.wait_for(waiting, 60)
        assert election.is_leader
        await asyncio.wait_for(election.wait_until_leading(), 60)


async def test_waiting_ends_with_the_election(pool: Pool) -> None:
    leader = pool.worker()
    leader.wins()
    leader.beats()
    election = election_on(pool)
    async with election:
        waiting = asyncio.create_task(election.wait_until_leading())
        await until_async(lambda: _led(election))
    with pytest.raises(ElectionError, match="takes part in the pool no longer"):
        await asyncio.wait_for(waiting, 60)
