"""A process that keeps a dead leader's lock: found, named, and killed if the pool fences (docs/pitfalls.md#1)."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from election.core.backend import SeatTiming
from election.core.process import ProcessIdentity, current_process, pinned
from election.core.seat import Worker
from election.core.term import LeaderRecord, Reason, Standing, Takeover
from election.engines.file import orphans
from election.engines.file.file_thread import FileThread
from election.engines.file.lock_holders import Holder, who_holds
from election.engines.file.orphans import OrphanDetector, is_orphan
from election.testing import ManualClock
from tests.engines.file.pool import Pool
from tests.support.processes import identity_of
from tests.support.waiting import until

NOW = datetime(2026, 11, 23, tzinfo=UTC)
POLL_S = 0.05
MIN_REFUSAL_S = 1.0
FENCE_AFTER = 3.0
"""Seconds: a quarter of it is longer than a busy machine delays an observer's next try."""
LOCKED = "8:42"
DEAD = replace(current_process(), pid=4242, start_time=1)
RECORD = LeaderRecord(7, DEAD, LOCKED, NOW, Takeover(7, None, 4242, Reason.STARTED, NOW))
CHILD = Holder(5000, "ffmpeg", taken_by=4242)


@pytest.mark.extended
def test_row_01_an_orphan_that_nothing_could_close_is_named(pool: Pool, children: list[psutil.Process]) -> None:
    """A child that a C library forked has run no hooks, and the kernel still names its dead parent."""
    leader = pool.led()
    orphan = leader.ask("raw_fork")
    children.append(psutil.Process(orphan))
    workers = pool.followers(2)
    leader.kill()
    for worker in workers:
        problem = until(lambda worker=worker: worker.ask("look")["problem"])
        assert f"is locked by pid {orphan} (" in problem
        assert problem.endswith(
            f"), which inherited it from the dead leader, pid {leader.pid}; end that process if it stays so"
        )
    assert not pool.begun(1)
    os.kill(orphan, signal.SIGKILL)
    pool.next_leader(after=1)
    for worker in workers:
        until(lambda worker=worker: worker.ask("look")["led"] and not worker.ask("look")["problem"])


def test_row_01_an_orphan_is_ended_where_leaders_are_fenced(pool: Pool, children: list[psutil.Process]) -> None:
    leader = pool.led()
    orphan = leader.ask("raw_fork")
    children.append(psutil.Process(orphan))
    orphan_id = identity_of(orphan)
    pool.followers(2, fence_after=FENCE_AFTER)
    leader.kill()
    assert pool.next_leader(after=1, within=40).ask("look")["term"] == 2
    assert f"ending pid {orphan} " in "\n".join(pool.told())
    until(lambda: orphan_id.is_alive() is False)


@pytest.mark.extended
def test_a_leader_that_stands_still_and_whose_record_was_removed_is_ended(pool: Pool) -> None:
    """Nobody leads by the record, so there is no heartbeat to judge by; but it has the lock, without an explanation."""
    leader = pool.led()
    pool.followers(2, fence_after=FENCE_AFTER)
    leader.stop()
    pool.facts.write("killed", pid=leader.pid)  # by an observer, later; it stops here before that
    pool.record.unlink()
    assert pool.next_leader(after=1, within=40) is not leader
    until(leader.gone)
    assert f"ending pid {leader.pid}" in "\n".join(pool.told())


def test_a_worker_that_stands_still_in_its_election_is_ended(pool: Pool) -> None:
    leader = pool.led()
    (winner,) = pool.followers(1, before=[("before_the_record", {"do": "stop"})])
    (observer,) = pool.followers(1, fence_after=FENCE_AFTER)
    observer.stop()  # so that the other one wins
    leader.kill()
    until(winner.stands_still)
    observer.resume()
    assert pool.next_leader(after=1, within=40) is observer
    until(winner.gone)


@pytest.mark.extended
def test_row_13_an_observer_that_stood_still_itself_ends_nobody_at_once(pool: Pool) -> None:
    leader = pool.led()
    (observer,) = pool.followers(1, fence_after=FENCE_AFTER)
    leader.stop()
    pool.facts.write("killed", pid=leader.pid)  # by an observer, later; it stops here before that
    pool.record.unlink()
    until(lambda: observer.ask("look")["problem"])
    observer.stop()
    stopped = time.monotonic()
    until(lambda: time.monotonic() - stopped > 2 * FENCE_AFTER)  # the standstill itself
    resumed = time.monotonic()
    observer.resume()
    pool.next_leader(after=1, within=40)
    assert pool.begun(1)[0].at - resumed >= FENCE_AFTER


def test_row_01_a_stranger_that_holds_the_lock_is_named_and_left_alone(pool: Pool) -> None:
    """It has taken the lock itself, so it is no child of a leader and may have been started on purpose."""
    leader = pool.led()
    pool.followers(1, fence_after=0.5)
    script = (
        "import fcntl, sys, time; file = open(sys.argv[1], 'r+'); print('trying', flush=True);"
        "fcntl.flock(file, fcntl.LOCK_EX); print('held', flush=True); time.sleep(3600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(pool.lock)], stdout=subprocess.PIPE, text=True
    ) as stranger:
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == "trying\n"
        leader.stop()  # it cannot campaign again, and the others get no event
        (follower,) = [worker for worker in pool.workers if worker is not leader]
        follower.stop()
        leader.kill()
        assert stranger.stdout.readline() == "held\n"
        follower.resume()
        until(lambda: f"is locked by pid {stranger.pid} (" in (follower.ask("look")["problem"] or ""))
        looks = len(pool.told("is locked by"))
        until(lambda: follower.ask("look")["problem"])
        assert looks == 1, "said once, not at each try"
        assert stranger.poll() is None
        stranger.kill()
    pool.next_leader(after=1)


def test_who_took_a_lock_and_who_has_it(tmp_path: Path) -> None:
    """The kernel names the taker, even when only its child has the descriptor."""
    path = tmp_path / "lock"
    script = (
        "import fcntl, os, sys, time; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX);"
        "os.fork() or (print(os.getpid(), flush=True), time.sleep(3600)); time.sleep(3600)"
    )
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        found = path.stat()
        holders = {holder.pid: holder.taken_by for holder in who_holds(found.st_dev, found.st_ino)}
        assert holders == {parent.pid: parent.pid, child: parent.pid}
        parent.kill()
        parent.wait()
        (holder,) = who_holds(found.st_dev, found.st_ino)
        assert holder.pid == child
        assert holder.taken_by in {parent.pid, 0}
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize(
    ("holder", "record", "orphan"),
    [
        pytest.param(CHILD, RECORD, True, id="a child of the recorded leader, which is dead"),
        pytest.param(replace(CHILD, taken_by=0), RECORD, True, id="of a dead one that cannot be named in a container"),
        pytest.param(replace(CHILD, taken_by=5000), RECORD, False, id="it took the lock itself"),
        pytest.param(replace(CHILD, taken_by=777), RECORD, False, id="a child of somebody else"),
        pytest.param(CHILD, replace(RECORD, holder=current_process()), False, id="the leader lives"),
        pytest.param(CHILD, replace(RECORD, standing=Standing.RESIGNED), False, id="the leader had given it up"),
        pytest.param(CHILD, replace(RECORD, seat_id="8:43"), False, id="another lock file than the leader's"),
        pytest.param(replace(CHILD, pid=6000), RECORD, False, id="a worker of the pool"),
    ],
)
def test_what_an_orphan_is(holder: Holder, record: LeaderRecord, orphan: bool) -> None:
    worker = Worker(ProcessIdentity(6000, 1, "", "", ""), NOW)
    assert is_orphan(holder, record, LOCKED, [worker]) is orphan


def test_a_process_of_somebody_else_is_never_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        monkeypatch.setattr("os.geteuid", lambda: os.stat(f"/proc/{process.pid}").st_uid + 1)
        with pytest.raises(PermissionError, match="belongs to uid"), pinned(process.pid):
            raise AssertionError("pinned all the same")
        monkeypatch.undo()
        with pinned(process.pid) as kill:
            kill()
        assert process.wait() == -signal.SIGKILL
    with pytest.raises(OSError), pinned(process.pid):
        raise AssertionError("nobody is there any more")


def detector_of(
    path: Path, clock: ManualClock, timing: SeatTiming, workers: Callable[[], list[Worker]] = list
) -> OrphanDetector:
    files = FileThread(str(path))
    return OrphanDetector(
        str(path), min_refusal_s=MIN_REFUSAL_S, timing=timing, clock=clock, workers=workers, files=files
    )


@pytest.mark.anyio
async def test_a_worker_that_takes_the_seat_from_an_orphan_gets_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time for which the lock was refused is not the time for which this holder has kept it."""
    clock, ended = ManualClock(), list[int]()
    holding = [CHILD]

    async def end(_: OrphanDetector, holder: Holder, why: str) -> None:
        ended.append(holder.pid)

    monkeypatch.setattr(orphans, "_look", lambda path: (LOCKED, holding))
    monkeypatch.setattr(OrphanDetector, "_end", end)
    with subprocess.Popen(["sleep", "60"]) as winner:
        workers = [Worker(identity_of(winner.pid), NOW)]
        detector = detector_of(tmp_path, clock, SeatTiming(0.5, 1.0, 2.0), lambda: workers)

        async def until_somebody_is_ended() -> float:
            ended.clear()
            began = clock.monotonic()
            while not ended:
                await clock.advance(0.1)
                await detector.refused(RECORD)
            return clock.monotonic() - began

        assert 2.0 < await until_somebody_is_ended() < 3.2
        assert ended == [CHILD.pid]
        holding[:] = [Holder(winner.pid, "python", taken_by=winner.pid)]
        assert 2.0 < await until_somebody_is_ended() < 4.2
        assert ended == [winner.pid]
        winner.kill()


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A lock file that an unknown process keeps locked."""
    path = tmp_path / "leader.lock"
    file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[file])
    os.close(file)
    try:
        yield path
    finally:
        child.kill()
        child.communicate()


@pytest.mark.anyio
async def test_an_observer_that_is_late_each_time_names_it_all_the_same(locked: Path) -> None:
    """On a busy machine a campaign takes longer than two polls; the reason has to be readable there too."""
    clock = ManualClock(NOW)
    detector = detector_of(locked, clock, SeatTiming(0.5, POLL_S, 0.1))
    for _ in range(5):
        await detector.refused(None)
        assert detector.problem is None
        await clock.advance(0.2)
    await detector.refused(None)
    assert detector.problem is not None and "nobody leads, but" in detector.problem


@pytest.mark.anyio
@pytest.mark.parametrize(("scan_s", "is_ended"), [(1.4, True), (3.0, False)], ids=["long", "standstill"])
async def test_a_scan_of_many_descriptors_makes_no_try_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scan_s: float, is_ended: bool
) -> None:
    """On a host where the scan takes seconds, an orphan is ended; but nobody by a process that may have stood still."""
    clock, ended = ManualClock(), list[int]()

    def scan(path: str) -> tuple[str, list[Holder]]:
        clock.block(scan_s)
        return LOCKED, [CHILD]

    async def end(_: OrphanDetector, holder: Holder, why: str) -> None:
        ended.append(holder.pid)

    monkeypatch.setattr(orphans, "_look", scan)
    monkeypatch.setattr(OrphanDetector, "_end", end)
    timing = SeatTiming(0.5, safety_poll=0.5, fence_after=4.0)  # punctual: two polls and a second
    detector = detector_of(tmp_path, clock, timing)
    while not ended and clock.monotonic() < 60.0:
        await clock.advance(1.0)
        await detector.refused(RECORD)
    assert bool(ended) is is_ended


@pytest.mark.anyio
async def test_what_was_not_watched_for_a_while_begins_anew(locked: Path) -> None:
    clock = ManualClock(NOW)
    detector = detector_of(locked, clock, SeatTiming(0.5, POLL_S))
    for _ in range(3):
        await detector.refused(None)
        assert detector.problem is None  # a leader may have come and gone meanwhile
        await clock.advance(MIN_REFUSAL_S + 0.1)


@pytest.mark.anyio
async def test_a_winner_that_waits_for_its_disk_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its record it syncs its number; the next winner would meet the same disk (P8, docs/pitfalls.md#48)."""
    clock, ended, waits = ManualClock(), list[int](), [True]

    async def end(_: OrphanDetector, holder: Holder, why: str) -> None:
        ended.append(holder.pid)

    monkeypatch.setattr(OrphanDetector, "_end", end)
    monkeypatch.setattr(orphans, "is_waiting_for_disk", lambda pid: waits[0])
    with subprocess.Popen(["sleep", "60"]) as winner:
        holder = Holder(winner.pid, "python", taken_by=winner.pid)
        monkeypatch.setattr(orphans, "_look", lambda path: (LOCKED, [holder]))
        workers = [Worker(identity_of(winner.pid), NOW)]
        detector = detector_of(tmp_path, clock, SeatTiming(0.5, 1.0, 2.0), lambda: workers)
        for _ in range(100):
            await clock.advance(0.1)
            await detector.refused(RECORD)
        assert ended == []
        waits[0] = False
        while not ended:
            await clock.advance(0.1)
            await detector.refused(RECORD)
        assert ended == [winner.pid]
        winner.kill()
