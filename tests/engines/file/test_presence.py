"""List of the workers in the pool: every live one and no dead one, whatever happens to the entries."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from election.core.clock import SystemClock
from election.core.process import current_process
from election.core.seat import Worker
from election.engines.file import presence
from election.engines.file.presence import Presence
from tests.engines.file.pool import Pool
from tests.support.processes import RemoteWorker
from tests.support.waiting import remove_in_use, until

NOW = datetime(2026, 11, 23, 4, tzinfo=UTC)


def lists(worker: RemoteWorker, *others: RemoteWorker) -> bool:
    return set(worker.ask("look")["workers"]) == {each.pid for each in (worker, *others)}


def test_workers_are_listed_and_dead_ones_vanish(pool: Pool) -> None:
    leader = pool.led()
    first, second, third = pool.followers(3)
    for worker in (leader, first):
        until(lambda worker=worker: lists(worker, *{leader, first, second, third} - {worker}))
    second.kill()
    until(lambda: lists(leader, first, third))
    third.send(signal.SIGTERM)
    until(third.gone)
    assert not list((pool.path / "workers").glob(f"{third.pid}-*")), "it takes its entry along"
    until(lambda: lists(leader, first))
    leader.kill()
    pool.next_leader(after=1)
    until(lambda: lists(first))
    assert len(list((pool.path / "workers").iterdir())) == 1, "the entries of the dead are cleared away"


def test_oldest_first(pool: Pool) -> None:
    leader = pool.led()
    younger = [pool.followers(1)[0] for _ in range(3)]
    assert until(lambda: len(found := leader.ask("look")["workers"]) == 4 and found) == [
        worker.pid for worker in (leader, *younger)
    ]


def test_an_entry_that_was_removed_comes_back(pool: Pool) -> None:
    leader = pool.led()
    (follower,) = pool.followers(1)
    remove_in_use(pool.path / "workers")
    until(lambda: lists(leader, follower))


def test_a_worker_that_could_not_say_so_at_its_start_says_so_later(pool: Pool) -> None:
    leader = pool.led()
    worker = pool.start(before=[("fail", {"name": "write", "code": 28, "path": "/workers/"})])
    until(lambda: pool.told("the presence of this worker cannot be published"))
    assert lists(leader)
    worker.ask("fail_no_more")
    until(lambda: lists(leader, worker))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Presence:
    monkeypatch.setattr(presence, "LIST_MAX_AGE_S", 0.0)
    here = Presence(str(tmp_path), SystemClock())
    here.enter(Worker(current_process(), NOW))
    return here


def entry(tmp_path: Path, name: str, **changes: Any) -> Path:
    (ours,) = tmp_path.glob(f"{os.getpid()}-*.json")
    worker = json.loads(ours.read_text())
    worker["process"] |= changes
    (tmp_path / name).write_text(json.dumps(worker))
    return tmp_path / name


def pids(here: Presence) -> list[int]:
    return [worker.process.pid for worker in here.look()]


def test_row_10_the_entry_of_a_dead_worker_whose_pid_is_another_process_by_now(here: Presence, tmp_path: Path) -> None:
    reused = entry(tmp_path, "reused.json", pid=os.getpid(), start_time=1)
    alive = entry(tmp_path, "alive.json", pid=1, start_time=int(Path("/proc/1/stat").read_text().split()[21]))
    assert pids(here) == [1, os.getpid()]
    assert not reused.exists()
    assert alive.exists()


@pytest.mark.parametrize("changes", [{"boot_id": "before"}, {"pid": 2**22 + 1}, {"pid": -1}])
def test_entries_of_the_dead(here: Presence, tmp_path: Path, changes: dict[str, Any]) -> None:
    dead = entry(tmp_path, "dead.json", **changes)
    assert pids(here) == [os.getpid()]
    assert not dead.exists()


def test_a_problem_is_published_beside_the_entry(here: Presence, tmp_path: Path) -> None:
    onlooker = Presence(str(tmp_path), SystemClock())
    here.report("the disk is full\n: \udc80")
    assert [worker.problem for worker in onlooker.look()] == ["the disk is full\n: ?"]
    assert here.list_elders() == [], "it is still itself"
    here.report(None)
    here.report(None)
    assert [worker.problem for worker in onlooker.look()] == [None]
    here.report("x" * 10_000)
    assert [len(worker.problem or "") for worker in onlooker.look()] == [4096]
    here.leave()
    assert not list(tmp_path.iterdir())


def test_a_problem_is_written_again_when_the_directory_was_removed(here: Presence, tmp_path: Path) -> None:
    onlooker = Presence(str(tmp_path), SystemClock())
    shutil.rmtree(tmp_path)
    with pytest.raises(FileNotFoundError):
        here.report("the disk is full")
    tmp_path.mkdir()
    here.renew()
    assert [worker.problem for worker in onlooker.look()] == ["the disk is full"]
    here.report(None)
    here.renew()
    assert not list(tmp_path.glob("*.problem"))


def test_a_problem_of_a_dead_worker_is_cleared_away(here: Presence, tmp_path: Path) -> None:
    entry(tmp_path, "dead.json", pid=2**22 + 1)
    (tmp_path / "dead.json.problem").write_text("no")
    assert [worker.problem for worker in here.look()] == [None]
    assert not list(tmp_path.glob("dead*"))


def test_a_worker_in_another_container_is_not_taken_for_dead(here: Presence, tmp_path: Path) -> None:
    foreign = entry(tmp_path, "foreign.json", pid=4242, pid_namespace="pid:[1]")
    assert pids(here) == sorted([4242, os.getpid()])
    assert foreign.exists()


def test_pitfall_68_a_worker_of_a_container_that_was_killed_ages_away(here: Presence, tmp_path: Path) -> None:
    """It cannot be examined from here; a live one touches its entry."""
    foreign = entry(tmp_path, "foreign.json", pid=4242, pid_namespace="pid:[1]")
    long_ago = time.time() - presence.FOREIGN_MAX_AGE_S - 1
    os.utime(foreign, (long_ago, long_ago))
    assert pids(here) == [os.getpid()]
    assert not foreign.exists()


def test_an_entry_is_touched_now_and_then(here: Presence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (ours,) = tmp_path.glob(f"{os.getpid()}-*.json")
    os.utime(ours, (1, 1))
    here.renew()
    assert ours.stat().st_mtime == 1, "each touch costs a write"
    monkeypatch.setattr(presence, "TOUCH_INTERVAL_S", 0.0)
    here.renew()
    assert ours.stat().st_mtime > time.time() - 60


@pytest.mark.parametrize("garbage", ["", "{", "[]", '{"process": 1}'])
def test_garbage_is_nobody(here: Presence, tmp_path: Path, garbage: str) -> None:
    (tmp_path / "garbage.json").write_text(garbage)
    (tmp_path / "directory").mkdir()
    assert pids(here) == [os.getpid()]


def test_an_entry_that_is_just_being_renamed_counts_once(here: Presence, tmp_path: Path) -> None:
    entry(tmp_path, "again.json.new")
    assert pids(here) == [os.getpid()]


def test_without_its_directory_a_worker_knows_itself(here: Presence, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path)
    assert pids(here) == [os.getpid()]


def test_row_02_a_forked_child_leaves_its_parents_entry_alone(here: Presence, tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        here.leave()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert pids(here) == [os.getpid()]
    here.leave()
    assert not list(tmp_path.iterdir())
    here.leave()
