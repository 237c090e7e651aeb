"""The process that is ended for keeping the ledger locked, and those that are not (P6)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from election.core.backend import Worker
from election.core.process import current_process
from election.core.term import LeaderRecord, Reason, Takeover
from election.engines.file import lock_holders, stalled_writer
from election.engines.file.database import SqliteDatabase
from election.engines.file.directory import PoolDirectory
from election.engines.file.leader_record import LeaderRecordFile
from election.engines.file.lock_holders import find_writer, is_waiting_for_disk
from election.engines.file.presence import Presence
from election.engines.file.stalled_writer import StalledWriter
from election.testing import ManualClock
from tests.support.logs import logged
from tests.support.processes import identity_of
from tests.support.waiting import until

NOW = datetime(2026, 11, 30, tzinfo=UTC)
AFTER_S = 12.0

WRITER = """
import sqlite3, sys
it = sqlite3.connect(sys.argv[1], isolation_level=None)
for each in sys.argv[2].split(";"):
    it.execute(each)
it.execute("CREATE TABLE mine (a)")
print(flush=True)
for line in sys.stdin:
    for each in line.split(";"):
        it.execute(each)
    print(flush=True)
"""


@pytest.fixture
def directory(tmp_path: Path) -> PoolDirectory:
    found = PoolDirectory(str(tmp_path / "pool"))
    found.prepare()
    database = SqliteDatabase(found.ledger)
    database._write(lambda connection: None)
    database._disconnect()
    return found


@pytest.fixture
def start(directory: PoolDirectory) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts a process that keeps the ledger locked."""
    with ExitStack() as scope:

        def start(begin: str = "BEGIN IMMEDIATE") -> subprocess.Popen[str]:
            command = [sys.executable, "-c", WRITER, directory.ledger, begin]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            process = scope.enter_context(subprocess.Popen(command, text=True, **pipes))
            scope.callback(process.kill)
            assert process.stdout is not None
            process.stdout.readline()
            assert find_writer(directory.ledger) == process.pid
            return process

        yield start


def tell(process: subprocess.Popen[str], statements: str) -> None:
    assert process.stdin is not None and process.stdout is not None
    print(statements, file=process.stdin, flush=True)
    process.stdout.readline()


def enter(directory: PoolDirectory, process: subprocess.Popen[str]) -> None:
    Presence(directory.workers, ManualClock()).enter(Worker(identity_of(process.pid), NOW))


@pytest.mark.parametrize("begin", ["BEGIN IMMEDIATE", "PRAGMA locking_mode=EXCLUSIVE; BEGIN IMMEDIATE"])
def test_p6_a_worker_is_ended_after_the_time_and_not_before(
    directory: PoolDirectory,
    start: Callable[[str], subprocess.Popen[str]],
    caplog: pytest.LogCaptureFixture,
    begin: str,
) -> None:
    writer = start(begin)
    enter(directory, writer)
    writer.send_signal(signal.SIGSTOP)
    stalled = StalledWriter(directory, after=AFTER_S)
    assert [stalled.count_wait(1.0) for _ in range(13)] == [False] * 12 + [True]
    assert writer.wait(10) == -signal.SIGKILL
    [said] = logged(caplog, "stalled_writer_killed")
    assert f"ending pid {writer.pid} (" in said.getMessage()
    assert "for 12.0 s" in said.getMessage()
    assert find_writer(directory.ledger) is None


def _is_left_alone(directory: PoolDirectory, writer: subprocess.Popen[str]) -> None:
    stalled = StalledWriter(directory, after=AFTER_S)
    assert not any(stalled.count_wait(1.0) for _ in range(40))
    assert writer.poll() is None
    assert find_writer(directory.ledger) == writer.pid


def test_a_process_that_is_no_worker_is_left_alone(
    directory: PoolDirectory, start: Callable[..., subprocess.Popen[str]]
) -> None:
    """A shell, for example; and an entry with this pid may be a dead worker's."""
    writer = start()
    former = Path(directory.workers, f"{writer.pid}-1.json")
    enter(directory, writer)
    [entry] = Path(directory.workers).iterdir()
    former.write_text(entry.read_text().replace(f'"start_time":{identity_of(writer.pid).start_time}', '"start_time":1'))
    entry.unlink()
    _is_left_alone(directory, writer)


def test_a_worker_in_another_container_is_left_alone(
    directory: PoolDirectory, start: Callable[..., subprocess.Popen[str]]
) -> None:
    writer = start()
    enter(directory, writer)
    [entry] = Path(directory.workers).iterdir()
    entry.write_text(entry.read_text().replace(current_process().pid_namespace, "pid:[1]"))
    _is_left_alone(directory, writer)


def test_the_leader_is_left_to_its_followers(
    directory: PoolDirectory, start: Callable[..., subprocess.Popen[str]]
) -> None:
    """They look at its heartbeat."""
    writer = start()
    enter(directory, writer)
    process = identity_of(writer.pid)
    LeaderRecordFile(directory.record).write(
        LeaderRecord(7, process, "8:42", NOW, Takeover(7, None, writer.pid, Reason.STARTED, NOW))
    )
    _is_left_alone(directory, writer)


def test_a_writer_that_waits_for_its_disk_is_left_alone(
    directory: PoolDirectory, start: Callable[..., subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = start()
    enter(directory, writer)
    waiting = {writer.pid}
    monkeypatch.setattr(stalled_writer, "is_waiting_for_disk", waiting.__contains__)
    _is_left_alone(directory, writer)


def test_who_waits_for_a_disk_is_known_from_who_does_not() -> None:
    """The parent of a vfork waits for its child as for a disk: uninterruptibly."""
    script = "import ctypes; libc = ctypes.CDLL(None); libc.vfork() or libc.sleep(3600)"
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        try:
            until(lambda: is_waiting_for_disk(process.pid), what="it waits")
        finally:
            for child in psutil.Process(process.pid).children():
                child.kill()
            process.kill()
    assert not is_waiting_for_disk(os.getpid())


def test_a_lock_on_another_file_with_the_same_inode_number_is_none(
    directory: PoolDirectory, start: Callable[..., subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two filesystems count their inodes alike."""
    writer = start()
    real = os.stat

    def stat(path: str, **options: bool) -> os.stat_result:
        found = real(path, **options)
        if not str(path).startswith(directory.ledger):
            return found
        return os.stat_result((*found[:2], found.st_dev + 1, *found[3:]))

    monkeypatch.setattr(lock_holders.os, "stat", stat)
    assert find_writer(directory.ledger) is None
    monkeypatch.undo()
    assert find_writer(directory.ledger) == writer.pid


def test_a_new_ledger_without_a_log_is_no_exception(
    directory: PoolDirectory, start: Callable[..., subprocess.Popen[str]]
) -> None:
    """A worker that was stopped while it made the ledger keeps everybody from it, too."""
    Path(directory.ledger).unlink()
    writer = start("PRAGMA journal_mode=DELETE; BEGIN EXCLUSIVE")
    enter(directory, writer)
    assert not Path(f"{directory.ledger}-wal").exists()
    stalled = StalledWriter(directory, after=AFTER_S)
    assert [stalled.count_wait(1.0) for _ in range(13)] == [False] * 12 + [True]


def test_transactions_of_a_living_worker_are_left_alone(
    directory: PoolDirectory, start: Callable[..., subprocess.Popen[str]]
) -> None:
    """Each look finds it in a transaction, but in another one than before."""
    writer = start()
    enter(directory, writer)
    stalled = StalledWriter(directory, after=AFTER_S)
    for _ in range(20):
        assert not stalled.count_wait(1.0)
        tell(writer, "INSERT INTO mine VALUES (1); COMMIT; BEGIN IMMEDIATE")
    assert writer.poll() is None


def test_a_lock_that_is_free_again_counts_no_further(
    directory: PoolDirectory, start: Callable[..., subprocess.Popen[str]]
) -> None:
    writer = start()
    enter(directory, writer)
    stalled = StalledWriter(directory, after=AFTER_S)
    for _ in range(12):
        assert not stalled.count_wait(1.0)
    tell(writer, "ROLLBACK")
    assert find_writer(directory.ledger) is None
    assert not stalled.count_wait(1.0)
    tell(writer, "BEGIN IMMEDIATE")
    assert not stalled.count_wait(1.0)
    assert writer.poll() is None
