"""Properties of the seat in Redis: event loops that change, its driver, and the command line's view from outside."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys

import pytest

from election.core.backend import LatestTerms, SeatTiming
from election.core.clock import SystemClock
from election.core.errors import SeatError
from election.core.seat import Seat
from election.engines.redis import RedisBackend
from election.engines.redis.address import address_of
from election.engines.redis.client import RedisClient
from election.engines.redis.lease import lease_for, trust_for
from election.engines.redis.scripts import PEEK
from tests.engines.conformance.pool import Pool
from tests.support.redis_server import Server
from tests.support.waiting import until


def test_the_margin_is_larger_than_a_heartbeat_and_the_drift_of_clocks() -> None:
    for heartbeat in (0.05, 0.5, 1.0, 10.0):
        lease, trust = lease_for(heartbeat), trust_for(heartbeat)
        assert lease >= 6 * heartbeat
        assert 2 * heartbeat < trust <= 0.9 * lease - heartbeat


def test_p5_p6_whoever_is_cancelled_is_so_whenever_it_comes(steady: Server) -> None:
    """Otherwise a heartbeat would continue, and the end of its term wait for it for ever: the driver may swallow the
    cancellation on 3.11.
    """

    async def look(client: RedisClient) -> None:
        for _ in range(3):
            await client.run(PEEK)

    async def live() -> int:
        client = RedisClient(address_of(steady.patient_url), SeatError)
        try:
            await client.run(PEEK)
            for turns in itertools.count():
                task = asyncio.create_task(look(client))
                for _ in range(turns):
                    await asyncio.sleep(0)
                done = task.done()
                task.cancel()
                await asyncio.wait([task])
                if done:
                    return turns
                assert task.cancelled(), f"after {turns} turns of the event loop"
        finally:
            await client.close()
        raise AssertionError

    assert asyncio.run(live()) > 3


def test_p7_a_campaign_that_is_lost_leaves_no_connection_to_the_ledger(steady: Server) -> None:
    """It was asked for the last term, and another worker was quicker."""
    actions: list[str] = []

    class Asked:
        async def latest_terms(self) -> LatestTerms:
            actions.append("asked")
            await asyncio.to_thread(steady.ask, "SET", "election:{election}:lease", "another", "PX", 3000)
            return LatestTerms(0, 0)

        async def close(self) -> None:
            actions.append("closed")

    async def live() -> None:
        clock, history = SystemClock(), Asked()
        backend = RedisBackend(
            address_of(steady.patient_url), timing=SeatTiming(0.05, 0.2), clock=clock, history=history
        )
        seat = Seat(backend, clock=clock, safety_poll=0.2, history=history)
        await seat.open()
        try:
            assert await seat.campaign() is None
            *asked, last = actions  # after a slow answer it asks once more before it drafts a record
            assert set(asked) == {"asked"}
            assert last == "closed"
        finally:
            await seat.close()

    asyncio.run(live())


@pytest.mark.extended
def test_the_command_line_looks_from_outside(pool: Pool, steady: Server) -> None:
    def ask(*words: str) -> str:
        command = [sys.executable, "-m", "election", *words, "--pool", steady.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return f"{done.returncode}\n{done.stdout}{done.stderr}"

    leader = pool.worker()
    leader.wins()
    leader.beats()
    said = ask("status")
    assert said.startswith("0\n")
    assert str(leader.pid) in said
    assert "append-only" in ask("doctor")
    assert ask("verify").startswith("0\n")
    assert until(leader.workers)[0].process.pid == leader.pid, "to look is not to take part"


def test_an_entry_that_is_no_worker_stops_nothing(pool: Pool, steady: Server) -> None:
    """Each monitor crashed on it again and again, and heard of nothing else."""
    leader, follower = pool.worker(), pool.worker()
    leader.wins()
    leader.beats()
    follower.sees(1)
    prefix = address_of(pool.url).prefix
    steady.ask("HSET", f"{prefix}workers", "odd", "no worker")
    steady.ask("PUBLISH", f"{prefix}joined", "{}")
    third = pool.worker()
    known = {leader.pid, follower.pid, third.pid}
    until(lambda: {worker.process.pid for worker in follower.workers()} == known, what="it hears of the newcomer")
    follower.waits()
    leader.release()
    until(follower.woken, what="it hears of the resignation")
