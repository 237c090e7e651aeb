"""From the judgement of a campaign to the term: nothing may have changed in between. Found by ``tests/model``.

The promises: P1 (asserted by the ``pool`` fixture for real processes) and P2.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from election.core.backend import SeatTiming
from election.core.clock import SystemClock
from election.core.process import _start_time
from election.core.seat import Seat
from election.core.term import LeaderRecord, Standing
from election.engines.file import FileBackend, PoolDirectory
from election.engines.file.atomic_files import DurableNumber
from tests.engines.file.pool import Pool
from tests.support.logs import logged
from tests.support.waiting import until

HEARTBEAT = 0.5


class Settled(SystemClock):
    """A clock on which no time passes; a sleep calls ``meanwhile`` instead."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.meanwhile: Callable[[], object] = lambda: None

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.to_thread(self.meanwhile)


@pytest.fixture
def clock() -> Settled:
    return Settled()


@pytest.fixture
def directory(tmp_path: Path) -> PoolDirectory:
    return PoolDirectory(str(tmp_path / "pool"))


@pytest.fixture
def seat(directory: PoolDirectory, clock: Settled) -> Iterator[Seat]:
    """A seat that is released at the end, so that no descriptor leaks into other tests."""
    backend = FileBackend(directory, timing=SeatTiming(HEARTBEAT, 1.0), clock=clock)
    seat = Seat(backend, clock=clock, safety_poll=1.0)
    yield seat
    if seat.held() is not None:
        asyncio.run(seat.release(Standing.RESIGNED))


async def a_term_that_ends(seat: Seat) -> LeaderRecord:
    assert await seat.campaign()
    await seat.release(Standing.RESIGNED)
    record = (await seat.observe()).record
    assert record is not None
    return record


def test_who_finds_no_record_settles_although_it_remembers_a_former_term(
    seat: Seat, directory: PoolDirectory, clock: Settled
) -> None:
    """Since the term that it has cached there may have been another, whose leader has just lost its record."""

    record = asyncio.run(a_term_that_ends(seat))
    Path(directory.record).unlink()
    clock.slept.clear()
    term = asyncio.run(seat.campaign())
    assert clock.slept == [2 * HEARTBEAT]
    assert term is not None
    assert term.number == record.term + 1


def test_a_term_begins_elsewhere_while_a_winner_settles(seat: Seat, directory: PoolDirectory, clock: Settled) -> None:
    clock.meanwhile = lambda: DurableNumber(directory.term).write(7)
    assert asyncio.run(seat.campaign()) is None
    clock.meanwhile = lambda: None
    term = asyncio.run(seat.campaign())
    assert term is not None
    assert term.number == 8


def test_the_record_changes_after_it_was_judged(seat: Seat, monkeypatch: pytest.MonkeyPatch) -> None:
    record = asyncio.run(a_term_that_ends(seat))

    with monkeypatch.context() as patch:
        reads = iter([record, replace(record, problem="not this one")])
        patch.setattr(seat.backend.record_file, "read", lambda: next(reads))
        assert asyncio.run(seat.campaign()) is None
    assert asyncio.run(seat.campaign()) is not None


def test_another_worker_is_about_to_begin_a_term(seat: Seat, directory: PoolDirectory) -> None:
    """Its lock file may be another, the number file is the same. The conflict is logged, and ends."""
    directory.prepare()
    with DurableNumber(directory.term).locked() as alone:
        assert alone
        assert asyncio.run(seat.campaign()) is None
        problem = asyncio.run(seat.observe()).problem
        assert problem == "another worker is about to begin or end a term; no other worker can lead before that is done"
    assert asyncio.run(seat.campaign()) is not None
    assert asyncio.run(seat.observe()).problem is None


def test_a_term_ends_while_another_worker_is_about_to_begin_one(
    seat: Seat, directory: PoolDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    """The seat is released all the same; a missing report does no harm, because the flock is free."""
    assert asyncio.run(seat.campaign()) is not None
    with DurableNumber(directory.term).locked():
        asyncio.run(seat.release(Standing.RESIGNED))
    (line,) = logged(caplog, "term_end_unrecorded")
    assert "term 1" in line.getMessage()
    assert "another worker begins a term" in line.getMessage()
    record = asyncio.run(seat.observe()).record
    assert record is not None
    assert record.standing is Standing.LEADING
    assert asyncio.run(seat.campaign()) is not None


def test_who_has_led_since_is_not_kept_off_by_what_it_remembers(
    seat: Seat, directory: PoolDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers that have cached each other, without a record, and without the kernel's list: neither would ever
    lead.
    """
    monkeypatch.setattr("election.engines.file.backend.is_flocked", lambda wanted, ours: None)
    parent = os.getppid()
    ended = asyncio.run(a_term_that_ends(seat))
    holder = replace(ended.holder, pid=parent, start_time=_start_time(parent))
    seat.backend.observer.last_seen = replace(ended, holder=holder, seat_id="1:1", standing=Standing.LEADING)
    Path(directory.record).unlink()
    assert asyncio.run(seat.campaign()) is None
    seat.backend.record_file.write(ended)
    assert asyncio.run(seat.campaign()) is not None
    asyncio.run(seat.release(Standing.RESIGNED))
    Path(directory.record).unlink()
    assert asyncio.run(seat.campaign()) is not None


def test_a_worker_stands_still_before_its_record_and_the_lock_file_is_renamed_there_and_back(pool: Pool) -> None:
    """A worker elected meanwhile would still lead when the lock file is the first one's again."""
    leader = pool.led()
    (stopped,) = pool.followers(1, before=[("before_the_record", {"do": "stop"})])
    leader.kill()
    until(stopped.stands_still)
    pool.lock.rename(pool.path / "away")
    other = pool.start()
    until(lambda: other.ask("look")["held"] or other.ask("look")["problem"], what="the other's verdict")
    (pool.path / "away").rename(pool.lock)
    stopped.resume()
    assert pool.next_leader(after=1) is stopped
    assert pool.term() == 2


def test_a_worker_that_stood_still_before_its_record_is_killed(pool: Pool) -> None:
    """It keeps nobody from the seat for longer than it lives."""
    leader = pool.led()
    (stopped,) = pool.followers(1, before=[("before_the_record", {"do": "stop"})])
    leader.kill()
    until(stopped.stands_still)
    pool.lock.rename(pool.path / "away")
    other = pool.start()
    until(lambda: other.ask("look")["problem"])
    stopped.kill()
    assert pool.next_leader(after=1) is other
    until(lambda: not other.ask("look")["problem"])


def test_a_lost_leader_whose_record_is_removed_keeps_the_others_off(pool: Pool) -> None:
    """Its work has not ended yet, and a newcomer has only its record."""
    leader = pool.led()
    leader.ask("hold_the_drain")
    pool.lock.rename(pool.path / "away")
    until(lambda: leader.ask("look")["role"] == "lost")
    pool.record.unlink()
    other = pool.start(heartbeat=0.5)  # it gives the leader two of its heartbeats
    until(lambda: "no other worker can lead before that" in (other.ask("look")["problem"] or ""))
    assert not pool.told(what="end")
    leader.ask("end_the_drain")
    pool.next_leader(after=1)
