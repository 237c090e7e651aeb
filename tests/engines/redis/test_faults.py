"""The seat in Redis under faults of its server, its connections and its leader (P1, P2, P3, P8)."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop

from election.core.errors import LedgerError, SeatError, StaleTermError
from election.core.term import Reason, Standing
from election.engines.redis.address import address_of
from election.engines.redis.client import RedisClient
from election.schedule.commands import Claim, RegisterJob
from election.schedule.model import Tick
from tests.engines.conformance.engines import HEARTBEAT
from tests.engines.conformance.pool import Pool, RemoteSeat
from tests.schedule.making import at, make_job, make_term, process
from tests.support.redis_server import Server
from tests.support.switch import Switch
from tests.support.waiting import until, until_async

LEASE = 3.0


def led(pool: Pool, **options: Any) -> tuple[RemoteSeat, RemoteSeat]:
    """A leader with heartbeats, and a follower that observes it."""
    leader, follower = pool.worker(**options), pool.worker(**options)
    term = leader.wins()
    leader.beats()
    assert follower.campaign() is None
    follower.sees(term.number)
    return leader, follower


def loses(leader: RemoteSeat, why: str) -> None:
    """The leader notices by itself that it leads no more."""

    def lost() -> bool:
        try:
            leader.beat()
        except AssertionError as error:
            return "SeatLostError" in str(error) and why in str(error)
        return False

    until(lost, what=f"it is told: {why}")
    assert leader.held() is None


@pytest.fixture
def switch(steady: Server) -> Iterator[Switch]:
    """A proxy between the workers and the server."""
    switch = Switch(steady.port)
    yield switch
    switch.close()


def test_p1_p3_a_leader_that_is_stopped_for_longer_than_its_lease_wakes_up_without_it(pool: Pool) -> None:
    """docs/pitfalls.md#32, #41: a paused leader's state is not trusted, and its claims are refused."""
    leader, follower = led(pool)
    beaten = time.monotonic()
    leader.beat()
    leader.process.stop()
    term = follower.wins()
    waited = time.monotonic() - beaten
    follower.beats()
    assert LEASE < waited < LEASE + 20
    assert (term.number, term.takeover.reason) == (2, Reason.LOST), "it is not dead"

    async def claim() -> None:
        ledger = pool.ledger()
        try:
            with pytest.raises(StaleTermError):
                await ledger.record(1, [Claim(Tick("job", at(1)), at(1))])
        finally:
            await ledger.close()

    asyncio.run(claim())
    leader.process.resume()
    assert leader.held() is None
    loses(leader, "the lease of the pool")  # the reason differs: it may have asked just before the stop, or too late
    leader.release(Standing.LOST)
    assert follower.held() is not None, "the lease of another is left alone"
    assert follower.sees(2).led


def test_p2_after_flushall_the_leader_ends_its_term_and_its_number_is_not_used_again(
    pool: Pool, steady: Server
) -> None:
    leader, follower = led(pool, patient=True)
    steady.ask("FLUSHALL")
    loses(leader, "the lease is gone")
    assert follower.campaign() is None, "others are kept off until its work has ended (P5)"
    leader.release(Standing.LOST)
    term = follower.wins()
    assert (term.number, term.takeover.reason) == (2, Reason.LOST)


@pytest.mark.extended
def test_p1_after_flushall_nobody_leads_beside_a_leader_that_stands_still(pool: Pool, steady: Server) -> None:
    """It cannot notice the loss of its lease, and trusts it for the time granted."""
    leader, follower = led(pool)
    newcomer = pool.worker()
    leader.process.stop()
    stopped = time.monotonic()
    steady.ask("FLUSHALL")
    until(lambda: steady.ask("GET", "election:{election}:term") == "1", what="the follower has told the server")
    term = until(lambda: newcomer.campaign() or follower.campaign(), what="one of them leads")
    assert term.number == 2
    assert time.monotonic() - stopped > LEASE - HEARTBEAT, "not before the lease of the first has passed"
    leader.process.resume()
    assert leader.held() is None


@pytest.mark.extended
def test_p2_what_a_living_worker_remembers_is_a_floor(pool: Pool, steady: Server) -> None:
    """The leader died with the server's memory; a newcomer reads first."""
    leader, follower = led(pool, patient=True)
    leader.release(Standing.RESIGNED)
    steady.ask("FLUSHALL")
    until(lambda: steady.ask("GET", "election:{election}:term") == "1", what="the follower has told the server")
    assert pool.worker().wins().number == 2
    assert follower.observe().problem is None


def test_a_server_that_is_killed_comes_back_with_what_it_knew(server: Server, new_pool: Callable[[str], Pool]) -> None:
    leader, follower = led(new_pool(server.patient_url), patient=True)  # so that the lease outlives the restart
    server.save()
    server.restart()
    until(lambda: leader.beat() is None, what="the leader's heart beats again")
    assert leader.held() is not None
    assert leader.held().number == 1  # type: ignore[union-attr]
    until(lambda: follower.observe().problem is None, what="the follower follows again")
    assert follower.sees(1).led


@pytest.mark.extended
def test_an_end_that_the_server_could_not_be_told_is_told_when_it_is_back(
    server: Server, new_pool: Callable[[str], Pool]
) -> None:
    leader = new_pool(server.url).worker()
    leader.wins()
    leader.beats()
    server.save()
    server.kill()
    leader.release(Standing.RESIGNED)
    server.start()
    term = leader.wins()
    assert (term.number, term.takeover.reason, term.takeover.from_pid) == (2, Reason.RESIGNED, leader.pid)


def test_p1_p8_nobody_leads_while_the_server_is_gone_and_all_say_why(
    server: Server, new_pool: Callable[[str], Pool]
) -> None:
    pool = new_pool(server.url)
    leader, follower = pool.worker(), pool.worker(heartbeat=0.75)  # for this one, the server stays young for 5 s
    leader.wins()
    leader.beats()
    assert follower.campaign() is None
    follower.sees(1)
    server.kill()
    killed = time.monotonic()
    assert leader.held_until() - killed < LEASE
    loses(leader, "could not be renewed")
    until(lambda: not follower.observe().led, what="the follower does not believe in the leader any more")
    assert "onnect" in (follower.observe().problem or "")
    with pytest.raises(AssertionError, match="SeatError"):
        follower.campaign()
    server.start()
    leader.release(Standing.LOST)
    until(lambda: "just started" in (_problem(follower)), what="it says that the server is young")
    assert follower.wins().number == 2


def _problem(worker: RemoteSeat) -> str:
    try:
        worker.campaign()
    except AssertionError as error:
        return str(error)
    return worker.observe().problem or ""


@pytest.mark.extended
def test_p1_a_server_that_has_just_started_elects_nobody_for_a_lease(
    new_server: Callable[..., Server], new_pool: Callable[[str], Pool]
) -> None:
    """It may have lost a lease that a worker still trusts."""
    server = new_server("--appendonly", "no").start().grown_up()
    pool = new_pool(server.url)
    leader, follower = led(pool)
    leader.process.stop()
    server.restart()
    restarted = time.monotonic()
    term = follower.wins()
    assert time.monotonic() - restarted > LEASE
    assert term.number == 2, "P2: the follower remembers the first"
    leader.process.resume()
    assert leader.held() is None


@pytest.mark.extended
def test_p1_a_server_that_is_stopped_for_longer_than_the_lease(pool: Pool, steady: Server) -> None:
    leader, follower = led(pool)
    steady.pause()
    try:
        until(lambda: leader.held() is None, what="the leader does not believe in its lease any more")
        until(lambda: not follower.observe().led, what="nor does the follower")
        loses(leader, "not be renewed")
    finally:
        steady.resume()
    leader.release(Standing.LOST)
    assert follower.wins().number == 2


@pytest.mark.parametrize("kind", ["normal", "pubsub"])
def test_connections_that_the_server_ends_are_made_again(pool: Pool, steady: Server, kind: str) -> None:
    leader, follower = led(pool, patient=True)
    for _ in range(3):
        steady.ask("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        time.sleep(0.2)
    assert leader.held() is not None
    follower.waits()
    until(lambda: follower.observe().problem is None, what="it listens again")
    leader.release(Standing.RESIGNED)
    until(follower.woken, what="the follower is woken")
    assert follower.wins().number == 2


@pytest.mark.extended
def test_connections_that_are_reset(switch: Switch, steady: Server, new_pool: Callable[[str], Pool]) -> None:
    leader, follower = led(new_pool(f"redis://127.0.0.1:{switch.port}/0?socket_timeout=30"), patient=True)
    for _ in range(3):
        switch.turn(steady.port)
        time.sleep(0.2)
    assert leader.held() is not None
    until(lambda: follower.observe().problem is None, what="the follower follows again")


@pytest.fixture
def replica(server: Server, new_server: Callable[..., Server]) -> Server:
    """A replica of ``server``, in sync with it."""
    replica = new_server("--replicaof", "127.0.0.1", str(server.port)).start()
    until(lambda: replica.info().get("master_link_status") == "up", what="the replica is in step")
    return replica


@pytest.mark.extended
def test_p1_p2_a_replica_that_has_kept_up_takes_over_with_the_term(
    server: Server, switch: Switch, replica: Server, new_pool: Callable[[str], Pool]
) -> None:
    switch.turn(server.port)
    leader, follower = led(new_pool(f"redis://127.0.0.1:{switch.port}/0?socket_timeout=30"))
    replica.grown_up()
    server.kill()
    replica.ask("REPLICAOF", "NO", "ONE")
    switch.turn(replica.port)
    until(lambda: leader.beat() is None, what="the leader's heart beats on the replica")
    assert leader.held().number == 1  # type: ignore[union-attr]
    leader.release(Standing.RESIGNED)
    assert follower.wins().number == 2


@pytest.mark.extended
def test_pitfall_59_connections_do_not_stay_with_a_demoted_master(
    server: Server, switch: Switch, replica: Server, new_pool: Callable[[str], Pool]
) -> None:
    """A planned failover: the old master continues as a replica, and only new connections reach the new one."""
    switch.turn(server.port)
    leader, follower = led(new_pool(f"redis://127.0.0.1:{switch.port}/0?socket_timeout=30"))
    replica.grown_up()
    switch.turn(replica.port, reset=False)
    replica.ask("REPLICAOF", "NO", "ONE")
    server.ask("REPLICAOF", "127.0.0.1", str(replica.port))
    until(lambda: leader.beat() is None, what="the leader's heart beats on the new master")
    until(lambda: follower.observe().problem is None, what="the follower follows there")

    def left() -> list[str]:
        return re.findall("cmd=evalsha|cmd=subscribe", str(server.ask("CLIENT", "LIST")))

    until(lambda: not left(), what="nobody stays with the former one")
    leader.release(Standing.RESIGNED)
    assert follower.wins().number == 2


def test_p3_while_the_server_evicts_nobody_is_elected(pool: Pool, steady: Server) -> None:
    steady.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    worker = pool.worker(opened=False)
    with pytest.raises(AssertionError, match=r"ConfigurationError.*noeviction"):
        worker.open()
    steady.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    worker.open()
    steady.ask("CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
    with pytest.raises(AssertionError, match=r"SeatError.*noeviction"):
        worker.campaign()
    steady.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert worker.wins().number == 1


def test_a_full_memory_grants_no_claim_and_says_so(pool: Pool, steady: Server) -> None:
    async def fill() -> None:
        ledger = pool.engine().ledger
        try:
            await ledger.begin_term(make_term(1), process())
            job = make_job("interval", seconds=1, start_date=at(-100))
            await ledger.record(1, [RegisterJob("job", job.schedule, at=at(0), since=at(0))])
            steady.ask("CONFIG", "SET", "maxmemory", "1mb")
            with pytest.raises(LedgerError, match="raise maxmemory"):
                await ledger.record(1, [Claim(Tick("job", at(1)), at(1))])
            assert await ledger.runs() == []
            steady.ask("CONFIG", "SET", "maxmemory", "0")
            assert await ledger.record(1, [Claim(Tick("job", at(1)), at(1))]) == [True]
        finally:
            await ledger.close()

    asyncio.run(fill())


def test_a_lease_that_somebody_has_made_endless_is_told(pool: Pool, steady: Server) -> None:
    steady.ask("SET", "election:{election}:lease", "somebody")
    worker = pool.worker()
    assert worker.campaign() is None
    assert "DEL" in (worker.observe().problem or "")
    steady.ask("DEL", "election:{election}:lease")
    assert worker.wins().number == 1


def test_a_record_that_nobody_can_read_keeps_nobody_from_leading(pool: Pool, steady: Server) -> None:
    steady.ask("SET", "election:{election}:record", "{")
    assert pool.worker().wins().number == 1


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_p8_a_connection_that_was_reset_is_told_in_words_and_made_again(
    switch: Switch, steady: Server, loop: str
) -> None:
    """Each loop reports it in another way; that of uvloop is no ``OSError``."""

    async def ask() -> None:
        client = RedisClient(address_of(f"redis://127.0.0.1:{switch.port}/0?socket_timeout=30"), SeatError)
        try:
            for _ in range(5):
                assert await client.read("PING")
                [connection] = client.driver.connection_pool._available_connections
                switch.turn(steady.port)
                await until_async(connection._writer.transport.is_closing, what="the loop has heard of it")
                with contextlib.suppress(SeatError):
                    await client.read("PING")
        finally:
            await client.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
        runner.run(ask())
