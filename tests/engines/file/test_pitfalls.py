"""Pitfalls of a lock on one host, on real processes: each test fails without the remedy of its row.

The tests are named after the rows of docs/pitfalls.md, which also names the tests of the rows that are not here. The
``pool`` fixture asserts of each test that no two workers led at the same time (P1) and that terms grew (P2).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import stat
import subprocess
import threading
import time
import tomllib
from pathlib import Path
from typing import Any

import psutil
import pytest
from packaging.requirements import Requirement

from election import Election, PoolInUseError, PoolPathError
from election.core.process import current_process
from election.engines.file.directory import filesystem_type
from tests.engines.file.pool import Pool
from tests.support.processes import ROOT, ForkServer, identity_of
from tests.support.waiting import remove_in_use, until

DAY = 86400.0
NEVER_POLL = {"safety_poll": 30.0}
"""For followers that must notice a vacancy by an event: the poll would come after 24 s at the earliest."""

EVENT = 20.0
"""Seconds within which an event has its effect, on a busy machine; NEVER_POLL is more."""


def is_free(lock: Path) -> bool:
    """Whether another process gets the flock."""
    with lock.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def flock_holders(lock: Path) -> list[int]:
    """Pids in the kernel's list, read without touching the lock."""
    inode = str(lock.stat().st_ino)
    rows = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return [int(row[4]) for row in rows if row[1] == "FLOCK" and row[5].endswith(f":{inode}")]


def open_files(pid: int) -> set[tuple[int, int]]:
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.add(identity(Path(f"/proc/{pid}/fd/{name}")))
    return found


def identity(path: Path) -> tuple[int, int]:
    seen = path.stat()
    return seen.st_dev, seen.st_ino


@pytest.mark.parametrize("fork", ["fork_child", "process_pool", "spawn_sleep"])
def test_row_01_children_of_a_killed_leader_keep_its_lock(
    pool: Pool, children: list[psutil.Process], fork: str
) -> None:
    leader = pool.led()
    pool.followers(2, **NEVER_POLL)
    made = leader.ask(fork)
    pids = [made] if isinstance(made, int) else made if isinstance(made, list) else [made["pid"]]
    children += map(psutil.Process, pids)

    assert pool.vacancy_after_kill(leader) < EVENT
    assert all(child.is_running() for child in children), "the children did not outlive the leader"


def test_row_02_a_forked_child_frees_the_lock_of_its_parent(pool: Pool, children: list[psutil.Process]) -> None:
    leader = pool.led()
    pool.followers(1)
    child = leader.ask("fork_child", child="let_go_of_all")
    children.append(psutil.Process(child["pid"]))

    assert child["said"] == {"held": None, "is_leader": False, "unlocked": "EBADF"}
    assert not is_free(pool.lock)
    beaten = pool.record.stat().st_mtime_ns
    until(lambda: pool.record.stat().st_mtime_ns > beaten)
    seen = leader.ask("look")
    assert (seen["held"], seen["role"], seen["led"]) == (1, "leader", True), "the child spoke for its parent"
    assert leader.pid in seen["workers"], "the child took its parent's entry away"


def test_row_02_a_forked_child_campaigns_with_the_objects_of_its_parent(
    pool: Pool, children: list[psutil.Process]
) -> None:
    leader = pool.led()
    child = leader.ask("fork_child", child="campaign")
    children.append(psutil.Process(child["pid"]))
    assert child["said"] == {"term": None, "is_leader": False}
    assert leader.ask("look")["held"] == 1


def test_row_02_a_flock_that_was_undone_is_taken_again_by_the_next_heartbeat(pool: Pool) -> None:
    leader = pool.led()
    leader.ask("undo_the_flock")
    until(lambda: flock_holders(pool.lock) == [leader.pid])
    assert leader.ask("look")["held"] == 1


def test_row_02_a_flock_that_was_undone_and_taken_ends_the_term(pool: Pool) -> None:
    leader = pool.led()
    leader.ask("undo_the_flock", then_taken=True)
    until(lambda: pool.told("another process took it"))
    until(lambda: pool.told("lost", what="end"))
    leader.ask("give_the_flock_back")
    pool.next_leader(after=1)


def test_row_03_descriptors_survive_exec(pool: Pool, children: list[psutil.Process]) -> None:
    leader = pool.led()
    assert leader.ask("inheritable") == [False, False]
    sleep = leader.ask("spawn_sleep")
    children.append(psutil.Process(sleep))
    until(lambda: Path(f"/proc/{sleep}/comm").read_text() == "sleep\n")
    assert not {identity(pool.lock), identity(pool.fifo)} & open_files(sleep)


@pytest.mark.parametrize("how", ["renamed", "unlinked", "replaced"])
def test_row_04_lock_file_renamed_while_somebody_leads(pool: Pool, how: str) -> None:
    pool.led()
    pool.followers(2)
    for term in range(1, 4):
        if how == "renamed":
            pool.lock.rename(pool.path / f"away-{term}")
        elif how == "unlinked":
            pool.lock.unlink()
        else:
            fresh = pool.path / "fresh"
            fresh.touch(0o600)
            fresh.replace(pool.lock)
        leader = pool.next_leader(after=term)
        assert leader.ask("look")["reason"] == "lost"
    assert [fact.term for fact in pool.begun()] == [1, 2, 3, 4]


def test_row_05_a_cleaner_removes_what_is_old(pool: Pool) -> None:
    pool.led()
    pool.followers(2)
    month_ago = time.time() - 30 * DAY
    for path in pool.path.rglob("*"):
        os.utime(path, (month_ago, month_ago))
    until(lambda: pool.record.stat().st_mtime > month_ago + DAY, what="a heartbeat")
    remove_in_use(pool.path / "workers")
    for path in [path for path in pool.path.iterdir() if path.stat().st_mtime < month_ago + DAY]:
        path.unlink()

    leader = pool.next_leader(after=1)
    assert pool.term() == 2
    until(lambda: len(leader.ask("look")["workers"]) == 3, what="all take part again")


def test_row_06_a_pool_on_nfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
        f"35 22 0:47 / {tmp_path}/a\\040share rw,relatime shared:1 - nfs4 server:/export rw,vers=4.2\n"
    )
    with mounts.open("ab") as file:
        file.write(b"36 22 0:48 / /media/Schl\xfcssel rw - vfat /dev/sdb rw\n")  # no UTF-8, and somebody else's
    pool = tmp_path / "a share" / "pool"
    assert filesystem_type(str(pool), str(mounts)) == "nfs4"
    assert filesystem_type(str(tmp_path / "a share and more"), str(mounts)) == "ext4"

    monkeypatch.setattr(
        "election.engines.file.directory.filesystem_type", lambda path: filesystem_type(path, str(mounts))
    )
    with pytest.raises(PoolPathError, match="is on nfs4, where flock may exclude nobody; use a local directory, or"):
        Election(pool).check()
    Election(pool, allow_network_fs=True).check()


def test_row_07_the_lock_file_is_opened_and_closed_in_the_leader(pool: Pool) -> None:
    leader = pool.led()
    leader.ask("open_and_close_the_lock_file")
    assert not is_free(pool.lock)


def test_row_08_a_follower_is_told_to_stop_while_a_leader_lives(pool: Pool) -> None:
    leader = pool.led()
    (follower,) = pool.followers(1, **NEVER_POLL)
    assert follower.ask("threads") == 2, "beside the loop's, one for its files, which has nothing to do"
    told = time.monotonic()
    follower.send(signal.SIGTERM)
    until(follower.gone)
    assert time.monotonic() - told < EVENT
    assert leader.ask("look")["workers"] == [leader.pid]
    assert pool.told(what="stopped")


def test_row_09_two_elections_on_one_directory_in_one_process(tmp_path: Path) -> None:
    first, second, another = Election(tmp_path / "pool"), Election(f"{tmp_path}/./pool"), Election(tmp_path / "another")

    async def twice() -> None:
        async with first, another:
            with pytest.raises(PoolInUseError, match=r"already takes part in the pool .*; share one Election, or give"):
                await second.__aenter__()
            with pytest.raises(PoolInUseError, match="this Election has been started already"):
                await first.__aenter__()
        async with second:
            pass  # one after the other does no harm

    asyncio.run(twice())


@pytest.mark.parametrize("pid", ["live", "reused", "zombie"])
def test_row_10_a_record_names_a_live_pid_that_holds_no_lock(pool: Pool, workers: ForkServer, pid: str) -> None:
    """The lock decides, the record only describes."""
    leader = pool.led()
    (follower,) = pool.followers(1, **NEVER_POLL)
    if pid == "zombie":
        with workers.keeping_zombies():
            assert pool.vacancy_after_kill(leader) < EVENT
            assert Path(f"/proc/{leader.pid}").exists(), "it was reaped"
        return
    follower.kill()
    leader.kill()
    until(lambda: leader.gone() and follower.gone())
    record = json.loads(pool.record.read_text())
    record["holder"]["pid"] = os.getpid()
    record["holder"]["start_time"] = current_process().start_time + (pid == "reused")
    pool.record.write_text(json.dumps(record))

    pool.start(**NEVER_POLL)
    assert pool.next_leader(after=1, within=EVENT).ask("look")["term"] == 2


def test_row_10_a_zombie_is_dead() -> None:
    """Its pid accepts signals, and its locks are free."""
    with subprocess.Popen(["sleep", "60"]) as process:
        identity = identity_of(process.pid)
        assert identity.is_alive() is True
        process.kill()
        until(lambda: identity.is_alive() is False)
        os.kill(process.pid, 0)


def test_row_14_a_torn_record(pool: Pool) -> None:
    """Read without a pause while it is replaced twice for each of many elections: never half a record, never none.

    A leader leads until it is told to resign, so its own record is read before that however busy the machine is.
    """
    reads = set()

    def read() -> dict[str, Any]:
        content = pool.record.read_bytes()
        assert content.endswith(b"\n}\n")
        reads.add(content)
        return dict(json.loads(content))

    leader = pool.led(safety_poll=0.01)
    pool.followers(1, safety_poll=0.01)
    for term in range(1, 61):
        seen = read()
        assert (seen["term"], seen["standing"]) == (term, "leading")
        leader.tell("resign")
        while not pool.begun(term):
            for _ in range(40):
                read()
        leader = pool.next_leader(after=term)
    for worker in sorted(pool.workers, key=lambda worker: worker is leader):
        worker.send(signal.SIGTERM)  # the leader last: nobody is left to take over
        until(worker.gone)
    seen = read()
    assert (seen["term"], seen["standing"]) == (pool.term(), "resigned")
    records = [json.loads(content) for content in reads]
    assert {"leading", "resigned"} == {record["standing"] for record in records}
    assert len({record["term"] for record in records}) >= 60


@pytest.mark.parametrize("then", [signal.SIGCONT, signal.SIGKILL])
def test_row_15_the_lock_is_taken_and_the_record_is_still_that_of_the_last_leader(pool: Pool, then: int) -> None:
    leader = pool.led()
    (winner,) = pool.followers(1, before=[("before_the_record", {"do": "stop"})], **NEVER_POLL)
    (observer,) = pool.followers(1)
    observer.stop()  # so that the other one wins
    leader.kill()
    until(winner.stands_still, what="it has stopped before its record")
    assert pool.told("", what="stopping")
    observer.resume()
    seen = observer.ask("look")
    assert (seen["led"], seen["leader"]) == (False, leader.pid)
    living = [winner.pid, observer.pid]
    until(lambda: observer.ask("look")["workers"] == living, what="nobody was signalled, nor the dead leader believed")
    until(lambda: set(flock_holders(pool.lock)) == {winner.pid}, what="the kernel lists its lock, and no other")
    assert not pool.begun(1)

    winner.send(then)
    assert pool.next_leader(after=1) is (winner if then == signal.SIGCONT else observer)


@pytest.mark.extended
def test_row_16_asking_for_the_leader_by_trying_the_lock(pool: Pool) -> None:
    leader = pool.led()
    asking = pool.followers(1, before=[("count_flocks", {})], **NEVER_POLL)[0]
    until(lambda: asking.ask("look_often", times=500) == 0, what="it asks for no flock")
    for _ in range(5):
        pool.followers(1, **NEVER_POLL)
        asking.tell("look_often", times=2000)
        assert pool.vacancy_after_kill(leader) < EVENT
        asking.answer()
        leader = pool.next_leader(after=pool.term() - 1)
        asking = next(worker for worker in pool.workers if not worker.gone() and worker is not leader)
        asking.ask("count_flocks")


def test_row_17_an_election_is_made_before_the_fork(pool: Pool, tmp_path: Path) -> None:
    def holdings() -> tuple[list[str], int]:
        return os.listdir("/proc/self/fd"), threading.active_count()

    before = holdings()
    election = Election(tmp_path / "unborn")
    assert holdings() == before
    assert not (tmp_path / "unborn").exists()
    assert election.is_leader is False

    for _ in range(3):
        pool.start(preload=True)
    leader = pool.next_leader()
    assert pool.vacancy_after_kill(leader) < EVENT


def test_row_18_workers_are_told_apart_by_the_host_name(pool: Pool) -> None:
    workers = [pool.start() for _ in range(8)]
    leader = pool.next_leader()
    for worker in workers:
        until(lambda worker=worker: worker.ask("look")["led"])
    assert {worker.ask("look")["leader"] for worker in workers} == {leader.pid}
    assert [worker.ask("look")["held"] for worker in workers if worker is not leader] == [None] * 7
    assert len(pool.begun()) == 1


@pytest.mark.parametrize("reuse", [False, True])
def test_row_19_the_belief_to_lead_is_remembered(pool: Pool, reuse: bool) -> None:
    leader = pool.led()
    assert leader.ask("close_the_descriptor", reuse=reuse) == {"before": 1, "after": None}
    until(lambda: pool.told("lost", what="end"), what="it noticed")
    assert pool.next_leader(after=1) is leader, "it leads again in order"
    if reuse:
        assert leader.ask("still_open"), "the file that got the number was closed"


def test_row_20_whoever_can_read_the_lock_file_can_lock_it(pool: Pool) -> None:
    pool.led(before=[("lax_umask", {})])
    assert stat.S_IMODE(pool.path.stat().st_mode) == 0o700
    modes = set()
    for path in pool.path.iterdir():
        with contextlib.suppress(FileNotFoundError):  # a draft that has become the record meanwhile
            modes.add((path.is_dir(), stat.S_IMODE(path.stat().st_mode)))
    assert {mode for is_folder, mode in modes if not is_folder} == {0o600}


def test_row_20_a_pool_that_others_may_enter_is_closed_to_them(pool: Pool) -> None:
    pool.led()
    pool.path.chmod(0o755)
    pool.followers(1)
    assert stat.S_IMODE(pool.path.stat().st_mode) == 0o700


def test_row_21_two_working_directories(pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    leader = pool.led(cwd=tmp_path / "a", path="../pool")
    leader.ask("move_away")
    (follower,) = pool.followers(1, cwd="/", path=pool.path)
    assert follower.ask("look")["leader"] == leader.pid
    assert pool.vacancy_after_kill(leader) < EVENT
    assert Election("var/pool")._engine.pool == str(Path.cwd() / "var/pool")


def test_row_37_the_file_that_keeps_the_term_is_deleted(pool: Pool) -> None:
    leader = pool.led()
    for term in range(1, 4):
        leader.send(signal.SIGTERM)  # and it resigns
        until(leader.gone)
        pool.lock.unlink()
        pool.record.unlink()
        leader = pool.led_again(after=term)
    assert [fact.term for fact in pool.begun()] == [1, 2, 3, 4]
    leader.kill()
    until(leader.gone)
    pool.number.unlink()  # the other of the two places
    assert pool.led_again(after=4).ask("look")["term"] == 5


def test_row_43_filelock_before_3_30_keeps_the_lock_in_forked_children() -> None:
    """The bound; the tests of docs/pitfalls.md#1 show that it is enough."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {Requirement(line).name: Requirement(line) for line in project["dependencies"]}["filelock"]
    assert "3.29.0" not in wanted.specifier
    assert "4.2.0" not in wanted.specifier, "it truncates the lock file"
    assert "4.2.1" in wanted.specifier
