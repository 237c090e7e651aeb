"""The vacancy watcher alone, with a record that the test writes: when it reports, and how often."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from election.core.backend import SeatTiming
from election.core.clock import SystemClock
from election.core.process import ProcessIdentity
from election.core.term import LeaderRecord, Reason, Standing, Takeover
from election.engines.file.file_thread import FileThread
from election.engines.file.vacancy import HEAD_START_S, HEAD_START_STEP_S, AliveFifo, VacancyWatcher
from election.testing import ManualClock
from tests.support.processes import identity_of
from tests.support.waiting import until_async

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 23, 4, tzinfo=UTC)
LONG = 30.0
"""Seconds of a safety poll that is too long to be the source."""

EVENT = 20.0
"""Seconds within which an event has its effect on a busy machine: the safety poll takes 24 s at least."""

TIMING = SeatTiming(1.0, LONG)


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[AliveFifo]:
    fifo = AliveFifo(str(tmp_path / "leader.alive"))
    fifo.hold()
    yield fifo
    fifo.let_go()


@pytest.fixture
def leader() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def record(holder: ProcessIdentity, term: int = 1, standing: Standing = Standing.LEADING) -> LeaderRecord:
    return LeaderRecord(term, holder, "1:1", NOW, Takeover(term, None, holder.pid, Reason.STARTED, NOW), standing)


async def speaks(
    watch: VacancyWatcher, look: Callable[[], LeaderRecord | None], *, at_once: bool
) -> asyncio.Task[None]:
    """Wait on ``watch``; assert that it reports at once, long before the safety poll, or that it does not."""
    task = asyncio.create_task(watch.vacancy(look(), look))
    if at_once:
        await until_async(task.done, EVENT, what="it reports")
        task.result()
    else:
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not task.done()
    return task


async def armed(fifo: AliveFifo, now: LeaderRecord, safety_poll: float = LONG) -> VacancyWatcher:
    watch = VacancyWatcher(fifo, timing=SeatTiming(1.0, safety_poll), clock=SystemClock(), files=FileThread(""))
    await speaks(watch, lambda: now, at_once=True)  # a term that ended before the watcher was armed does not wake it
    return watch


async def test_the_death_of_the_leader_is_heard(fifo: AliveFifo, leader: subprocess.Popen[bytes]) -> None:
    now = record(identity_of(leader.pid))
    watch = await armed(fifo, now)
    waiting = await speaks(watch, lambda: now, at_once=False)
    leader.kill()
    await asyncio.wait_for(waiting, EVENT)
    watch.close()


@pytest.mark.parametrize("younger", [0, 1])
async def test_older_followers_have_a_head_start(
    fifo: AliveFifo, leader: subprocess.Popen[bytes], younger: int
) -> None:
    """The younger ones try one after the other, in case the oldest does not."""
    now, clock, own = record(identity_of(leader.pid)), ManualClock(), identity_of(os.getpid())
    elders = [now.holder, *[own] * (younger + 1)]  # of live workers only being alive matters
    watch = VacancyWatcher(fifo, timing=TIMING, clock=clock, files=FileThread(""), list_elders=lambda: elders)
    await speaks(watch, lambda: now, at_once=True)
    waiting = await speaks(watch, lambda: now, at_once=False)
    leader.kill()
    await until_async(lambda: "pidfd" not in watch.sources, what="its death is noticed")
    delay = HEAD_START_S + younger * HEAD_START_STEP_S
    await clock.advance(delay - 0.001)
    assert not waiting.done()
    await clock.advance(0.002)
    await asyncio.wait_for(waiting, EVENT)
    watch.close()


async def test_the_oldest_follower_that_lives_waits_for_nobody(
    fifo: AliveFifo, leader: subprocess.Popen[bytes]
) -> None:
    """Neither for the leader, nor for one that has died since it was listed."""
    now = record(identity_of(leader.pid))
    with subprocess.Popen(["sleep", "60"]) as elder:
        elders = [now.holder, identity_of(elder.pid)]
        elder.kill()
    watch = VacancyWatcher(fifo, timing=TIMING, clock=ManualClock(), files=FileThread(""), list_elders=lambda: elders)
    await speaks(watch, lambda: now, at_once=True)
    waiting = await speaks(watch, lambda: now, at_once=False)
    leader.kill()
    await asyncio.wait_for(waiting, EVENT)
    watch.close()


async def test_the_hang_up_of_the_leader_is_heard(fifo: AliveFifo, leader: subprocess.Popen[bytes]) -> None:
    now = record(identity_of(leader.pid))
    watch = await armed(fifo, now)
    waiting = await speaks(watch, lambda: now, at_once=False)
    fifo.let_go()
    await asyncio.wait_for(waiting, EVENT)
    watch.close()


async def test_a_leader_that_hangs_up_without_a_word_is_dying(
    fifo: AliveFifo, leader: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel closes its files one by one: a try between FIFO and flock would fail, and delay it."""
    monkeypatch.setattr("election.engines.file.vacancy.DYING_S", 30.0)
    now = record(identity_of(leader.pid))
    watch = await armed(fifo, now)
    fifo.let_go()
    waiting = await speaks(watch, lambda: now, at_once=False)
    leader.kill()
    await asyncio.wait_for(waiting, EVENT)
    watch.close()


async def test_a_leader_that_resigns_is_heard_by_its_hang_up(
    fifo: AliveFifo, leader: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("election.engines.file.vacancy.DYING_S", LONG)  # only a leader that dies gets that time
    now = [record(identity_of(leader.pid))]
    watch = await armed(fifo, now[0])
    waiting = await speaks(watch, lambda: now[0], at_once=False)
    now[0] = record(identity_of(leader.pid), standing=Standing.RESIGNED)
    fifo.let_go()
    await asyncio.wait_for(waiting, EVENT)
    watch.close()


async def test_after_a_hang_up_a_live_leader_is_doubted_and_then_believed_and_listened_to_again(
    fifo: AliveFifo, leader: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("election.engines.file.vacancy.HANG_UP_DOUBT_S", 0.02)
    monkeypatch.setattr("election.engines.file.vacancy.DYING_S", 0.01)
    now = record(identity_of(leader.pid))
    watch = await armed(fifo, now, safety_poll=0.05)
    fifo.let_go()
    tries = 0
    while watch.armed_for:
        await asyncio.wait_for(watch.vacancy(now, lambda: now), EVENT)
        tries += 1
    assert 4 < tries < 12
    fifo.hold()
    await watch.vacancy(now, lambda: now)
    assert watch.sources == ["fifo", "pidfd"]
    watch.close()


async def test_without_a_pidfd_a_new_leader_is_doubted_for_a_while(
    fifo: AliveFifo, leader: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have died between its record and our watch: the FIFO has hung up already, and the flock may still be
    taken, so that neither the FIFO nor the following try reveals the death.
    """
    monkeypatch.delattr("os.pidfd_open")
    monkeypatch.setattr("election.engines.file.vacancy.HANG_UP_DOUBT_S", 0.02)
    fifo.let_go()
    now = record(identity_of(leader.pid))
    watch = VacancyWatcher(fifo, timing=TIMING, clock=SystemClock(), files=FileThread(""))
    tries = 0

    def it_waits_for_the_poll() -> bool:
        return tries > 0 and watch.armed_for is None

    while tries < 12:
        waiting = asyncio.create_task(watch.vacancy(now, lambda: now))
        await until_async(lambda task=waiting: task.done() or it_waits_for_the_poll(), what="a try, or no more")
        if not waiting.done():
            waiting.cancel()
            await asyncio.wait([waiting])
            break
        tries += 1
    assert 4 < tries < 12, "and not with every poll"
    watch.close()


async def test_the_poll_speaks_if_nothing_else_does(fifo: AliveFifo, leader: subprocess.Popen[bytes]) -> None:
    now = record(identity_of(leader.pid))
    watch = await armed(fifo, now, safety_poll=0.01)
    await asyncio.wait_for(watch.vacancy(now, lambda: now), EVENT)
    watch.close()


async def test_a_new_leader_is_watched_in_place_of_the_old_one(
    fifo: AliveFifo, leader: subprocess.Popen[bytes]
) -> None:
    with subprocess.Popen(["sleep", "60"]) as successor:
        watch = await armed(fifo, record(identity_of(leader.pid)))
        now = record(identity_of(successor.pid), term=2)
        await speaks(watch, lambda: now, at_once=True)
        waiting = await speaks(watch, lambda: now, at_once=False)
        leader.kill()
        leader.wait()
        await asyncio.sleep(0)
        assert not waiting.done(), "the death of the one before is nobody's business"
        successor.kill()
        await asyncio.wait_for(waiting, EVENT)
        watch.close()


async def test_row_10_a_pid_that_was_reused_is_not_watched(fifo: AliveFifo, leader: subprocess.Popen[bytes]) -> None:
    now = record(replace(identity_of(leader.pid), start_time=1))
    watch = await armed(fifo, now)
    assert watch.sources == ["fifo"]
    waiting = asyncio.create_task(watch.vacancy(now, lambda: now))
    await asyncio.wait_for(waiting, EVENT)  # nobody leads, so it tries again soon
    watch.close()


async def test_while_nobody_leads_the_tries_grow_rare(fifo: AliveFifo, leader: subprocess.Popen[bytes]) -> None:
    """A winner may be slow; the others neither miss its end nor burn the processor."""
    now = record(replace(identity_of(leader.pid), start_time=1))
    watch = await armed(fifo, now, safety_poll=0.2)
    begun, tries = time.monotonic(), 0
    while time.monotonic() - begun < 1.0:
        await watch.vacancy(now, lambda: now)
        tries += 1
    assert tries < 20
    watch.close()


@pytest.mark.parametrize("factor", [0.8, 1.2])
async def test_the_safety_poll_is_jittered_by_a_fifth(
    fifo: AliveFifo, leader: subprocess.Popen[bytes], factor: float
) -> None:
    """Followers that started together do not poll together."""
    now, clock = record(identity_of(leader.pid)), ManualClock()
    timing = SeatTiming(1.0, LONG, uniform=lambda low, high: low if factor < 1 else high)
    watch = VacancyWatcher(fifo, timing=timing, clock=clock, files=FileThread(""))
    await speaks(watch, lambda: now, at_once=True)
    waiting = await speaks(watch, lambda: now, at_once=False)
    await clock.advance(LONG * factor - 0.001)
    assert not waiting.done()
    await clock.advance(0.002)
    await asyncio.wait_for(waiting, EVENT)
    watch.close()


async def test_before_there_is_a_record_it_looks_often(fifo: AliveFifo) -> None:
    watch = VacancyWatcher(fifo, timing=TIMING, clock=SystemClock(), files=FileThread(""))
    await asyncio.wait_for(watch.vacancy(None, lambda: None), EVENT)
    watch.close()


async def test_it_gives_every_descriptor_back(fifo: AliveFifo, leader: subprocess.Popen[bytes]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    watch = VacancyWatcher(fifo, timing=SeatTiming(1.0, 0.001), clock=SystemClock(), files=FileThread(""))
    for term in range(1, 50):
        now = record(identity_of(leader.pid), term)
        await watch.vacancy(now, lambda now=now: now)
        await watch.vacancy(now, lambda now=now: now)
        waiting = asyncio.create_task(watch.vacancy(now, lambda now=now: now))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    watch.close()
    watch.close()
    assert len(os.listdir("/proc/self/fd")) == before
