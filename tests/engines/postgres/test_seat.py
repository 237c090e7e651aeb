"""Fates of the session that holds the seat: ended by the server, cut off, kept open by a child (P1, P5, P6)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from election.core import process
from election.core.process import ProcessIdentity, current_process
from election.core.term import LeaderRecord, Reason, Standing, Takeover
from election.engines.postgres.address import parse
from election.engines.postgres.trust import (
    MIN_TRUST_S,
    TRUST_HEARTBEATS,
    TRUST_MARGIN,
    StateBefore,
    remaining_trust,
    was_fenced_by_switch,
)
from tests.engines.conformance.pool import Pool, RemoteSeat
from tests.engines.conformance.test_seat import led
from tests.support.postgres_server import PostgresServer, RunningPostgres
from tests.support.proxy import Proxy
from tests.support.waiting import until


def end_session(server: RunningPostgres, pool: Pool, column: str = "backend") -> None:
    """The server ends the leader's session, as an administrator may request."""
    schema = parse(pool.url).schema
    assert server.execute(f'SELECT pg_terminate_backend({column}) FROM "{schema}".leader') == [(True,)]


def in_queue(server: RunningPostgres, pool: Pool) -> int:
    """Number of workers in the server's queue for the seat."""
    ours = parse(pool.url).key("seat") & 0xFFFFFFFF  # other tests use this server too
    waiting = f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid::bigint = {ours}"
    return int(server.execute(waiting)[0][0])


SLOW = {"heartbeat": 0.5}
"""For workers whose trust must be far longer than a busy machine delays an event."""

SLOW_TRUST_S = TRUST_HEARTBEATS * SLOW["heartbeat"]


def test_p1_a_leader_whose_session_was_ended_knows_at_once_and_nobody_leads_before_it_says_so(
    pool: Pool, postgres_server: RunningPostgres
) -> None:
    leader, follower = led(pool, **SLOW)
    follower.waits()
    end_session(postgres_server, pool)
    until(lambda: leader.held() is None, timeout=0.75 * SLOW_TRUST_S, what="the hang-up is heard")
    until(follower.woken, what="the lock comes to the follower")
    assert follower.campaign() is None
    assert "may still work in term 1" in str(follower.observe().problem)
    follower.waits()
    time.sleep(SLOW_TRUST_S)
    assert follower.campaign() is None, "the leader beats on, because its work has not ended"
    follower.waits()
    leader.release(Standing.LOST)
    until(follower.woken, what="the follower hears of the end")
    assert follower.wins().takeover.reason is Reason.LOST


def test_p1_a_leader_that_cannot_say_anything_is_waited_for_until_it_cannot_believe_in_its_seat(
    pool: Pool, postgres_server: RunningPostgres
) -> None:
    leader, follower = led(pool)
    beaten = time.monotonic()
    leader.beat()
    leader.process.stop()
    end_session(postgres_server, pool)
    term = follower.wins()
    assert time.monotonic() - beaten > MIN_TRUST_S * (1 - TRUST_MARGIN)
    assert (term.number, term.takeover.from_pid) == (2, leader.pid)
    leader.process.resume()
    assert leader.held() is None


@pytest.mark.extended
def test_an_end_that_the_server_could_not_be_told_is_told_when_it_is_back(
    own_pool: Pool, own_server: PostgresServer
) -> None:
    leader = own_pool.worker()
    leader.wins()
    leader.beats()
    own_server.kill()
    until(lambda: leader.held() is None, what="the hang-up is heard")
    leader.release(Standing.RESIGNED)
    own_server.start()
    term = leader.wins()
    assert (term.number, term.takeover.reason, term.takeover.from_pid) == (2, Reason.RESIGNED, leader.pid)


def test_a_session_that_ends_beside_the_leaders_is_opened_again(pool: Pool, postgres_server: RunningPostgres) -> None:
    leader, follower = led(pool, patient=True)
    session = f'SELECT watch FROM "{parse(pool.url).schema}".leader'
    [(former,)] = until(lambda: [row for row in postgres_server.execute(session) if row[0]])
    end_session(postgres_server, pool, "watch")
    until(lambda: postgres_server.execute(session)[0][0] not in {None, former}, what="the watch is opened again")
    assert leader.sees(1).led, "as soon as its new session has read"
    assert leader.held() is not None
    assert follower.sees(1).led


def test_pitfall_1_a_child_that_outlives_the_leader_does_not_keep_its_seat(pool: Pool) -> None:
    leader, follower = led(pool)
    child = leader.process.ask("fork")
    try:
        leader.kill()
        assert follower.wins().takeover.reason is Reason.DIED
        os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_leader_that_hangs_out_of_reach_loses_its_seat(pool: Pool) -> None:
    leader, follower = led(pool)
    leader.process.stop()
    follower.process.ask("terminate")
    assert follower.wins().number == 2
    leader.process.resume()
    assert leader.held() is None


@pytest.mark.extended
def test_p6_a_leader_that_dies_on_another_host(pool: Pool, postgres_server: RunningPostgres) -> None:
    """Its process cannot be examined from here; the end of all of its sessions proves its death."""
    slow = {"heartbeat": 1.0}  # a trust of 10 s
    leader, follower = pool.worker(elsewhere=True, **slow), pool.worker(**slow)
    leader.wins()
    follower.sees(1)
    follower.follow()
    until(lambda: in_queue(postgres_server, pool), what="it is in the queue")
    leader.beat()  # only a session that is older than the last heartbeat has seen the end of those that sent it
    leader.kill()
    killed = time.monotonic()
    assert follower.led().takeover.reason is Reason.DIED
    assert time.monotonic() - killed < 5.0, "to wait for its silence would take twice as long"


@pytest.mark.extended
def test_p6_a_dead_leader_whose_sessions_end_late(pool: Pool, postgres_server: RunningPostgres) -> None:
    """A busy server ends one session long after the other: the follower notices it during its doubt, and does not wait
    for all of the trust, which takes 20 s here.
    """
    slow = {"heartbeat": 2.0}
    leader, follower = pool.worker(elsewhere=True, **slow), pool.worker(**slow)
    leader.wins()
    follower.sees(1)
    follower.follow()
    until(lambda: in_queue(postgres_server, pool), what="it is in the queue")

    def watch_of_leader() -> int | None:
        leader.beat()  # it names its watch once that is open
        [(watch,)] = postgres_server.execute(f'SELECT watch FROM "{parse(pool.url).schema}".leader')
        return None if watch is None else int(watch)

    watch = until(watch_of_leader, what="the leader's watch is known")
    os.kill(watch, signal.SIGSTOP)
    try:
        leader.kill()
        until(lambda: "may still work in term 1" in str(follower.observe().problem), what="the follower doubts")
    finally:
        os.kill(watch, signal.SIGCONT)
    ended = time.monotonic()
    assert follower.led().takeover.reason is Reason.DIED
    assert time.monotonic() - ended < 10.0, "it looks at each of its heartbeats of 2 s"


def test_p2_numbers_grow_though_the_tables_are_lost(pool: Pool, postgres_server: RunningPostgres) -> None:
    leader, follower = led(pool)
    schema = parse(pool.url).schema
    lock = f'LOCK TABLE "{schema}".leader, "{schema}".workers IN ACCESS EXCLUSIVE MODE'  # before DROP: no deadlock
    postgres_server.execute(f'{lock}; DROP SCHEMA "{schema}" CASCADE')
    with pytest.raises(AssertionError, match=r"SeatError|SeatLostError"):
        leader.beat()
    leader.release(Standing.LOST)
    assert until(lambda: _campaigns(follower) or _campaigns(leader))


def _campaigns(worker: RemoteSeat) -> bool:
    """Whether it wins; an unreachable seat is tried again."""
    try:
        term = worker.campaign()
    except AssertionError as error:
        assert "SeatError" in str(error)
        return False
    if term is not None:
        assert term.number == 2
    return term is not None


def test_a_record_that_nobody_can_read_keeps_nobody_from_leading(pool: Pool, postgres_server: RunningPostgres) -> None:
    leader, follower = led(pool)
    leader.kill()
    postgres_server.execute(f"""UPDATE "{parse(pool.url).schema}".leader SET record = 'nonsense'""")
    assert until(lambda: _campaigns(follower))


@pytest.mark.parametrize("sleeps", [pytest.param("stopped", marks=pytest.mark.extended), "blocked"])
def test_pitfall_62_a_winner_that_sleeps_loses_the_seat_to_the_next_in_the_queue(
    pool: Pool, postgres_server: RunningPostgres, sleeps: str
) -> None:
    """P6: the server grants the lock to a worker that is stopped, or whose event loop is blocked."""
    leader, first = led(pool)
    second = pool.worker()
    for number, follower in enumerate((first, second), start=1):
        follower.waits()
        until(lambda number=number: in_queue(postgres_server, pool) == number, what="it is in the queue")
    if sleeps == "stopped":
        os.kill(first.pid, signal.SIGSTOP)
    else:
        first.process.ask("block", seconds=10.0)
    try:
        leader.kill()
        died = time.monotonic()
        assert second.wins().number == 2
        assert time.monotonic() - died < 8.0, "it took 25 s and more, and takes 1.2 s; the sleeper wakes at 10 s"
        second.beats()
    finally:
        os.kill(first.pid, signal.SIGCONT)
    until(lambda: first.observe().led and not _campaigns(first), what="the sleeper wakes up as a follower")
    assert first.held() is None
    assert second.held() is not None


@pytest.mark.extended
def test_a_worker_that_nobody_lets_wait_leaves_the_queue(
    pool: Pool, postgres_server: RunningPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopping worker may serve requests for a while; the seat should not pass to it."""
    monkeypatch.setattr("election.engines.postgres.advisory_lock.WAIT_S", 5.0)  # in this process: the one that stops
    monkeypatch.setattr("election.engines.postgres.backend.LINGER_S", 60.0)  # until both were seen
    leader, follower = led(pool)
    postgres_server.execute("SELECT now()")  # the driver reads the time zone from the disk once, and not on the loop
    leaver = pool.engine().seat

    ours = "datname = current_database() AND state = 'active'"
    waiting = f"SELECT count(*) FROM pg_stat_activity WHERE {ours} AND query LIKE '%wait_for_seat%'"

    def both_wait() -> None:
        until(lambda: postgres_server.execute(waiting) == [(2 + 1,)], what="both wait")  # and this query itself

    def one_leaves() -> None:
        until(lambda: postgres_server.execute(waiting) == [(1 + 1,)], what="one has left")

    async def leave() -> None:
        await leaver.open()
        try:
            assert await leaver.campaign() is None
            with contextlib.suppress(TimeoutError):  # it is before the follower in the server's queue
                await asyncio.wait_for(leaver.vacancy(), 0.1)
            follower.waits()
            await asyncio.to_thread(both_wait)
            monkeypatch.setattr("election.engines.postgres.backend.LINGER_S", 0.1)
            with contextlib.suppress(TimeoutError):  # from here on, nobody lets it wait any more
                await asyncio.wait_for(leaver.vacancy(), 0.1)
            await asyncio.to_thread(one_leaves)
        finally:
            await leaver.close()

    asyncio.run(leave())
    leader.release(Standing.RESIGNED)
    until(follower.woken, what="the follower is woken")
    assert follower.wins().number == 2


def test_only_the_session_that_leads_is_ended(pool: Pool, postgres_server: RunningPostgres) -> None:
    leader, follower = led(pool)
    leader.release(Standing.RESIGNED)
    leader.close()
    led_by = f'"{parse(pool.url).schema}".leader'
    session = (
        f"SELECT 1 FROM {led_by}, pg_stat_get_activity(backend) AS it WHERE it.backend_start = leader.backend_start"
    )
    until(lambda: not postgres_server.execute(session), what="the server has ended its session")
    with pytest.raises(AssertionError, match="there is no session of term 1"):
        follower.process.ask("terminate")


@pytest.mark.extended
def test_p8_a_server_that_stands_still(own_pool: Pool, own_server: PostgresServer) -> None:
    """docs/pitfalls.md#32, #33: nobody leads after the trust has run out, and all report the reason; then work
    continues.
    """
    leader, follower = led(own_pool)
    with own_server.paused():
        began = time.monotonic()
        assert leader.held_until() - began < MIN_TRUST_S
        for worker in (leader, follower):

            def says_why(worker: RemoteSeat = worker) -> bool:
                seen = worker.observe()
                return not seen.led and seen.problem is not None and "cannot be reached" in seen.problem

            until(says_why, what=f"{worker} says why nobody leads")
    leader.release(Standing.LOST)
    assert follower.wins().number == 2
    assert leader.held() is None


@pytest.mark.extended
def test_p1_a_server_process_that_crashes_takes_all_sessions_with_it(
    own_pool: Pool, own_server: PostgresServer
) -> None:
    leader, follower = led(own_pool)
    [(backend,)] = own_server.execute("SELECT backend FROM election.leader")
    os.kill(backend, signal.SIGKILL)
    until(lambda: leader.held() is None, what="the leader has noticed")
    leader.release(Standing.LOST)

    until(lambda: _campaigns(follower), what="the follower leads")


@pytest.fixture
def proxied(own_server: PostgresServer, own_pool: Pool) -> Iterator[tuple[Pool, Proxy, str]]:
    """A pool, and its address through a faulty network."""
    proxy = Proxy(own_server.port)
    yield own_pool, proxy, own_pool.url.replace(f":{own_server.port}/", f":{proxy.port}/")
    proxy.close()


def far_leader(pool: Pool, url: str) -> tuple[RemoteSeat, RemoteSeat]:
    """A leader behind the faulty network, and a follower in front of it."""
    leader = pool.worker(url=url, **SLOW)
    leader.wins()
    leader.beats()
    follower = pool.worker(**SLOW)
    assert follower.campaign() is None
    follower.sees(1)
    return leader, follower


@pytest.mark.extended
def test_a_connection_that_is_reset(proxied: tuple[Pool, Proxy, str]) -> None:
    pool, proxy, url = proxied
    leader, follower = far_leader(pool, url)
    proxy.reset()
    until(lambda: leader.held() is None, timeout=0.75 * SLOW_TRUST_S, what="the reset is heard")
    leader.release(Standing.LOST)
    assert follower.wins().takeover.reason in {Reason.LOST, Reason.DIED}


@pytest.mark.extended
def test_p1_a_cable_that_is_cut(proxied: tuple[Pool, Proxy, str], own_server: PostgresServer) -> None:
    """The leader stops leading before another worker begins; when the cable is repaired, it does not lead."""
    pool, proxy, url = proxied
    leader, follower = far_leader(pool, url)
    beaten = time.monotonic()
    leader.beat()
    proxy.cut()
    cut = time.monotonic()
    end_session(own_server, pool)  # like a server whose keep-alives are not answered
    follower.waits()
    ceased = leader.held_until() - cut
    follower.wins()
    waited = time.monotonic() - beaten
    follower.beats()
    assert ceased < SLOW_TRUST_S < waited + 0.2
    proxy.heal()
    assert leader.held() is None
    leader.release(Standing.LOST)
    assert follower.held() is not None
    assert follower.sees(2).led


NOW = datetime(2026, 11, 23, tzinfo=UTC)
OURS = current_process()
DEAD = replace(OURS, pid=2**22 + 1)
DIED = replace(OURS, pid=2**22 + 2)
"""The same, although it was seen alive from here."""
FAR = replace(OURS, boot_id="another", host="another")


@pytest.mark.parametrize(
    ("holder", "more", "seconds"),
    [
        pytest.param(None, {}, 0, id="nobody has led"),
        pytest.param(OURS, {}, 0, id="we did"),
        pytest.param(DIED, {}, 0, id="it is dead"),
        pytest.param(DEAD, {}, 5.0, id="which a clone of this host may have, for it was never seen alive"),
        pytest.param(FAR, {"silent": 1.0}, 4.0, id="on another host, for which its session was ended"),
        pytest.param(FAR, {"silent": 1.0, "watched": True, "witnessed": True}, 4.0, id="whose other session is open"),
        pytest.param(FAR, {"silent": 1.0, "witnessed": True}, 0, id="all of whose sessions ended before our eyes"),
        pytest.param(FAR, {"silent": 6.0, "watched": True}, 0, id="silent for long enough"),
    ],
)
def test_p1_whether_somebody_may_still_believe(
    monkeypatch: pytest.MonkeyPatch, holder: ProcessIdentity | None, more: dict[str, float | bool], seconds: float
) -> None:
    """docs/pitfalls.md#60: equal ids are no proof of the same host."""
    with monkeypatch.context() as patch:
        patch.setattr(process, "_start_time", lambda pid: DIED.start_time if pid == DIED.pid else None)
        assert DIED.is_alive()
    record = None
    if holder is not None:
        record = LeaderRecord(7, holder, "", NOW, Takeover(7, None, holder.pid, Reason.STARTED, NOW))
    before = StateBefore(record, 7, **more)  # type: ignore[arg-type]
    assert remaining_trust(before, OURS, 5.0) == pytest.approx(seconds)
    if record is not None:
        over = replace(before, record=replace(record, standing=Standing.LOST))
        assert remaining_trust(over, OURS, 5.0) == 0, "its term is over, by its own word"


@pytest.mark.parametrize(
    ("holder", "silent", "fence_after", "ended"),
    [
        pytest.param(DEAD, 2.0, 2.0, True, id="silent for as long as the switch waits"),
        pytest.param(DEAD, 1.5, 2.0, True, id="the last press came one heartbeat before the last heartbeat"),
        pytest.param(DEAD, 1.0, 2.0, False, id="silent for two heartbeats: it died"),
        pytest.param(FAR, 9.0, 2.0, False, id="on another host, whose process cannot be seen"),
        pytest.param(DEAD, 9.0, None, False, id="there is no switch"),
    ],
)
def test_pitfall_12_whether_a_leader_was_ended_by_its_own_switch(
    holder: ProcessIdentity, silent: float, fence_after: float | None, ended: bool
) -> None:
    record = LeaderRecord(7, holder, "", NOW, Takeover(7, None, holder.pid, Reason.STARTED, NOW))
    assert was_fenced_by_switch(StateBefore(record, 7, silent=silent), fence_after, heartbeat=0.5) is ended
