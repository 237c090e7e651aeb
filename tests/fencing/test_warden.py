"""Decisions of a follower about a hanging leader, and its actions: as tables of observations, on a manual clock."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from election.core.errors import LedgerBusyError, LedgerError
from election.core.process import ProcessIdentity, current_process
from election.core.seat import Observation, Worker
from election.core.term import LeaderRecord, Reason, Takeover
from election.fencing.warden import DYING_S, MAX_POLL_INTERVAL_S, Warden
from election.testing import ManualClock
from tests.support.logs import fields, logged
from tests.support.processes import identity_of

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 23, tzinfo=UTC)
STALLED_AFTER = 3.0
FENCE_AFTER = 4.0


@dataclass
class Pool:
    """View of a follower: a leader that is a real process, and its heartbeat, which the test controls."""

    clock: ManualClock
    record: LeaderRecord
    workers_: list[Worker] = field(default_factory=list)
    led: bool = True
    beaten_at: float = 0.0
    intents: list[int] = field(default_factory=list)
    intent: bool | Exception = True

    def beat(self) -> None:
        self.beaten_at = self.clock.monotonic()

    async def observe(self, max_age_s: float = 0.0) -> Observation:
        age = self.clock.monotonic() - self.beaten_at
        return Observation(self.record, self.led, age if self.led else None)

    async def workers(self) -> list[Worker]:
        return self.workers_

    async def fence(self, term: int, *, pid: int, by_pid: int, silent: float, every: float) -> bool:
        assert (pid, by_pid) == (self.record.holder.pid, os.getpid())
        assert silent >= FENCE_AFTER
        assert every == FENCE_AFTER
        self.intents.append(term)
        if isinstance(self.intent, Exception):
            raise self.intent
        return self.intent


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


@pytest.fixture
def pool(victim: subprocess.Popen[bytes]) -> Pool:
    holder = identity_of(victim.pid)
    record = LeaderRecord(3, holder, "8:42", NOW, Takeover(3, None, victim.pid, Reason.STARTED, NOW))
    pool = Pool(ManualClock(), record)
    pool.workers_ = [Worker(holder, NOW), Worker(current_process(), NOW)]
    pool.beat()
    return pool


def warden(pool: Pool, fence_after: float | None = FENCE_AFTER) -> Warden:
    seat: Any = pool
    return Warden(seat, pool, clock=pool.clock, stalled_after=STALLED_AFTER, fence_after=fence_after)


async def watch(watcher: Warden, pool: Pool, seconds: float, *, beating: bool = False) -> None:
    """Observe at the requested times, for so long."""
    end = pool.clock.monotonic() + seconds
    while pool.clock.monotonic() < end:
        await pool.clock.advance(min(await watcher.look(), end - pool.clock.monotonic()))
        if beating:
            pool.beat()
    await watcher.look()


def is_dead(victim: subprocess.Popen[bytes]) -> bool:
    return victim.poll() is not None


async def test_a_heart_that_beats_is_left_alone(pool: Pool, victim: subprocess.Popen[bytes], caplog: Any) -> None:
    await watch(warden(pool), pool, 600, beating=True)
    assert not is_dead(victim)
    assert pool.intents == []
    assert caplog.text == ""


async def test_a_silent_leader_is_warned_of_then_ended_after_that_is_written_down(
    pool: Pool, victim: subprocess.Popen[bytes], caplog: Any
) -> None:
    watcher = warden(pool)
    await watch(watcher, pool, FENCE_AFTER)
    (line,) = logged(caplog, "leader_stalled")
    assert " 3." in line.getMessage(), "the seconds of silence"
    assert not is_dead(victim), "its own switch comes first"
    await watch(watcher, pool, FENCE_AFTER * 0.1 + 0.01)
    assert pool.intents == [3]
    assert victim.wait(10) == -signal.SIGKILL
    (line,) = logged(caplog, "fenced")
    assert (fields(line)["pid"], fields(line)["term"]) == (victim.pid, 3)
    assert "4.4 s" in line.getMessage()


async def test_without_a_fence_it_is_warned_of_once(
    pool: Pool, victim: subprocess.Popen[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    watcher = warden(pool, None)
    caplog.set_level(logging.INFO)
    await watch(watcher, pool, 60)
    pool.beat()
    await watch(watcher, pool, 1)
    told = [(record.levelname, fields(record)["event"]) for record in caplog.records]
    assert told == [("WARNING", "leader_stalled"), ("INFO", "leader_responsive")]
    assert not is_dead(victim)


async def test_row_13_who_was_late_begins_to_watch_anew(pool: Pool, victim: subprocess.Popen[bytes]) -> None:
    """A standstill while nobody observed proves nothing."""
    watcher = warden(pool)
    await watch(watcher, pool, 2)
    await pool.clock.advance(60)  # this process was stopped, or its host asleep
    await watch(watcher, pool, FENCE_AFTER)
    assert pool.intents == []
    await watch(watcher, pool, FENCE_AFTER * 0.1 + 0.01)
    assert pool.intents == [3]


async def test_a_new_leader_has_its_whole_time(pool: Pool) -> None:
    watcher = warden(pool)
    await watch(watcher, pool, FENCE_AFTER - 0.1)
    pool.record = replace(pool.record, term=4)
    await watch(watcher, pool, FENCE_AFTER)
    assert pool.intents == []


async def test_followers_take_turns(pool: Pool, victim: subprocess.Popen[bytes]) -> None:
    """The first follower acts; each of the others is a quarter of a second behind."""
    others = [Worker(ProcessIdentity(90_000 + n, 1, "", "", ""), NOW) for n in range(3)]
    pool.workers_ = [pool.workers_[0], *others, pool.workers_[1]]
    watcher = warden(pool)
    await watch(watcher, pool, FENCE_AFTER * 1.1 + 3 * 0.25 - 0.05)
    assert pool.intents == []
    await watch(watcher, pool, 0.1)
    assert pool.intents == [3]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"boot_id": "another"}, "in another container or on another host", id="another host"),
        pytest.param({"pid_namespace": "pid:[1]"}, "in another container or on another host", id="another container"),
    ],
)
async def test_who_cannot_be_told_apart_is_left_alone(
    pool: Pool, victim: subprocess.Popen[bytes], caplog: Any, change: dict[str, Any], said: str
) -> None:
    pool.record = replace(pool.record, holder=replace(pool.record.holder, **change))
    await watch(warden(pool), pool, 60)
    assert not is_dead(victim)
    assert caplog.text.count(said) == 1


async def test_whose_process_is_out_of_reach_loses_its_seat_where_the_engine_can_do_that(
    pool: Pool, victim: subprocess.Popen[bytes]
) -> None:
    pool.record = replace(pool.record, holder=replace(pool.record.holder, boot_id="another"))
    evicted: list[LeaderRecord] = []

    async def terminate(record: LeaderRecord) -> None:
        assert pool.intents == [record.term], "written down before it is done"
        evicted.append(record)
        pool.led = False

    seat: Any = pool
    timing: dict[str, Any] = {"clock": pool.clock, "stalled_after": STALLED_AFTER, "fence_after": FENCE_AFTER}
    await watch(Warden(seat, pool, **timing, terminate=terminate), pool, 60)
    assert evicted == [pool.record]
    assert not is_dead(victim)


@pytest.mark.parametrize("how", ["led", "term", "beat"])
async def test_all_is_looked_at_again_after_the_intent_was_written(
    pool: Pool, victim: subprocess.Popen[bytes], how: str
) -> None:
    """The write takes time, and the leader may have recovered meanwhile."""
    write = pool.fence

    async def fence(*args: Any, **kwargs: Any) -> bool:
        match how:
            case "led":
                pool.led = False
            case "term":
                pool.record = replace(pool.record, term=4)
            case "beat":
                pool.beat()
        return await write(*args, **kwargs)

    pool.fence = fence  # type: ignore[method-assign]
    await watch(warden(pool), pool, FENCE_AFTER * 1.2)
    assert pool.intents == [3]
    assert not is_dead(victim)


async def test_what_was_of_no_use_is_not_tried_again_at_once(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in the middle of an uninterruptible system call dies later."""
    monkeypatch.setattr("signal.pidfd_send_signal", lambda *_: None)
    watcher = warden(pool)
    await watch(watcher, pool, FENCE_AFTER * 2)
    assert pool.intents == [3]
    await watch(watcher, pool, FENCE_AFTER)
    assert pool.intents == [3, 3]


async def test_a_pid_that_belongs_to_another_process_by_now(pool: Pool, victim: subprocess.Popen[bytes]) -> None:
    """``led`` compares the whole identity; without it the pid alone must not be enough."""
    pool.record = replace(pool.record, holder=replace(pool.record.holder, start_time=1))
    await watch(warden(pool), pool, 60)
    assert pool.intents == []
    assert not is_dead(victim)


@pytest.mark.parametrize("intent", [False, LedgerError("the disk is full")])
async def test_nobody_is_ended_unless_it_is_written_down(
    pool: Pool, victim: subprocess.Popen[bytes], caplog: Any, intent: bool | Exception
) -> None:
    pool.intent = intent
    await watch(warden(pool), pool, 30)
    assert len(pool.intents) > 5
    assert not is_dead(victim)
    said = [line.getMessage() for line in logged(caplog, "fence_failed")]
    assert ["the disk is full" in each for each in said] == [True] * (intent is not False)


async def fence_while_locked(pool: Pool) -> asyncio.Future[float]:
    """Begin to fence the leader while the ledger is locked; the look that goes on when time does."""
    pool.intent = LedgerBusyError("database is locked")
    watcher = warden(pool)
    await watch(watcher, pool, FENCE_AFTER)
    await pool.clock.advance(FENCE_AFTER * 0.1 + 0.01)
    looking = asyncio.ensure_future(watcher.look())
    await pool.clock.settle()
    return looking


@pytest.mark.parametrize("how", ["hangs", "comes back", "observer is late"])
async def test_a_ledger_that_is_locked(
    pool: Pool, victim: subprocess.Popen[bytes], caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """A leader that was stopped within a transaction is ended after another look, and the intent written after that.

    A storage that stood still looks the same, and when it goes on, so does the leader.
    """
    looking = await fence_while_locked(pool)
    assert pool.intents == [3]
    pool.intent = True
    if how == "comes back":
        pool.beat()
    if how == "observer is late":
        pool.clock.block(FENCE_AFTER)
    await pool.clock.advance(FENCE_AFTER)
    await looking
    if how == "hangs":
        assert victim.wait(10) == -signal.SIGKILL
        assert pool.intents == [3, 3]
    else:
        assert not is_dead(victim)
        assert pool.intents == [3]
    assert not logged(caplog, "fence_failed")


@pytest.mark.parametrize("takes", [0.3, 60.0])
async def test_a_ledger_that_is_locked_is_free_when_the_leader_is_dead(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, takes: float
) -> None:
    """The intent is written when it has died; a process that does not die keeps nobody for long."""
    killed: list[float] = []
    written: list[float] = []
    write = pool.fence

    async def fence(*args: Any, **kwargs: Any) -> bool:
        written.append(pool.clock.monotonic())
        return await write(*args, **kwargs)

    def is_alive(_: ProcessIdentity) -> bool:
        return not killed or pool.clock.monotonic() < killed[0] + takes

    monkeypatch.setattr("signal.pidfd_send_signal", lambda *_: killed.append(pool.clock.monotonic()))
    monkeypatch.setattr(ProcessIdentity, "is_alive", is_alive)
    pool.fence = fence  # type: ignore[method-assign]
    looking = await fence_while_locked(pool)
    pool.intent = True
    await pool.clock.advance(FENCE_AFTER)
    await looking
    assert len(killed) == 1
    assert written[1:] == [pytest.approx(killed[0] + min(takes, DYING_S), abs=DYING_S / 50)]


async def test_looks_are_rare_while_all_is_well(pool: Pool) -> None:
    watcher, looks = warden(pool, 15.0), 0
    for _ in range(100):
        pool.beat()
        looks += 1
        await pool.clock.advance(await watcher.look())
    assert pool.clock.monotonic() >= looks * MAX_POLL_INTERVAL_S * 0.99
