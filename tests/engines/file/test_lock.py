"""The lock alone: errors that mean a lock held by another process, and those that do not (docs/pitfalls.md#22)."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from election.core.errors import SeatError, SeatLostError
from election.engines.file.lock import LockFile
from tests.engines.file.faults import Faults

HELD = [errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES]
FAULTS = [errno.ENOSPC, errno.EROFS, errno.ENOLCK, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOSYS, errno.EDQUOT]


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[LockFile]:
    lock = LockFile(str(tmp_path / "leader.lock"))
    yield lock
    lock.release()


def outsider(tmp_path: Path) -> int:
    descriptor = os.open(tmp_path / "leader.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


@pytest.mark.parametrize("code", HELD, ids=errno.errorcode.get)
def test_row_22_errnos_of_flock_that_mean_held(lock: LockFile, tmp_path: Path, code: int) -> None:
    with Faults(str(tmp_path), {"flock": code}).running():
        assert lock.acquire() is None
    assert not lock.is_current()
    assert lock.acquire() is not None, "one refusal is no reason to give up"


@pytest.mark.parametrize("call", ["flock", "open"])
@pytest.mark.parametrize("code", FAULTS, ids=errno.errorcode.get)
def test_row_22_errnos_that_are_errors(lock: LockFile, tmp_path: Path, call: str, code: int) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    with Faults(str(tmp_path), {call: code}).running():
        for _ in range(3):
            with pytest.raises(SeatError, match=errno.errorcode[code]) as caught:
                lock.acquire()
            assert f"{tmp_path}/leader.lock cannot be locked: {os.strerror(code)}" in str(caught.value)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert lock.acquire() is not None


def test_held_by_another(lock: LockFile, tmp_path: Path) -> None:
    other = outsider(tmp_path)
    assert lock.acquire() is None
    os.close(other)
    found = lock.acquire()
    assert found == lock.identity
    assert lock.is_current()
    lock.check()
    with pytest.raises(BlockingIOError):
        outsider(tmp_path)
    lock.release()
    assert lock.identity is None
    os.close(outsider(tmp_path))


def test_the_file_is_never_written_and_never_unlinked(lock: LockFile, tmp_path: Path) -> None:
    (tmp_path / "leader.lock").write_text("untouched")
    for _ in range(3):
        assert lock.acquire()
        lock.release()
    assert (tmp_path / "leader.lock").read_text() == "untouched"


def swap(path: Path) -> None:
    path.rename(path.with_name("away"))
    path.touch(0o600)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (lambda path: path.unlink(), "the lock file was removed or renamed"),
        (lambda path: path.rename(path.with_name("away")), "the lock file was removed or renamed"),
        (swap, "the lock file was replaced by another"),
        (lambda path: (path.unlink(), path.symlink_to("away")), "the lock file was replaced by another"),
    ],
    ids=["removed", "renamed", "replaced", "symlink"],
)
def test_row_04_what_became_of_the_file_is_seen(lock: LockFile, tmp_path: Path, what: Any, words: str) -> None:
    lock.acquire()
    what(tmp_path / "leader.lock")
    assert not lock.is_current()
    with pytest.raises(SeatLostError, match=words):
        lock.check()


def test_row_04_the_file_is_replaced_between_open_and_flock(lock: LockFile, tmp_path: Path) -> None:
    path = tmp_path / "leader.lock"
    path.touch()
    real = fcntl.flock

    def late(*args: Any) -> None:
        fcntl.flock = real
        swap(path)
        real(*args)

    fcntl.flock = late
    try:
        assert lock.acquire() is None
    finally:
        fcntl.flock = real
    os.close(outsider(tmp_path))
    assert lock.acquire() == (path.stat().st_dev, path.stat().st_ino)


def test_row_02_a_forked_child_that_is_refused_holds_nothing(lock: LockFile) -> None:
    lock.acquire()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if lock.acquire() is None and lock.identity is None else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert lock.is_current()


@pytest.mark.parametrize("what", ["directory", "symlink", "fifo"])
def test_the_lock_file_is_something_else(lock: LockFile, tmp_path: Path, what: str) -> None:
    path = tmp_path / "leader.lock"
    if what == "directory":
        path.mkdir()
    elif what == "symlink":
        (tmp_path / "other").touch()
        path.symlink_to("other")
    else:
        os.mkfifo(path)
        assert lock.acquire() is not None, "as good a lock as any"
        return
    with pytest.raises(SeatError, match="cannot be locked"):
        lock.acquire()


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO], ids=errno.errorcode.get)
def test_row_19_when_in_doubt_it_is_not_held(lock: LockFile, tmp_path: Path, code: int) -> None:
    lock.acquire()
    with Faults(str(tmp_path), {"stat": code}).running():
        assert not lock.is_current()
        with pytest.raises(SeatLostError, match=f"cannot be inspected: {os.strerror(code)}"):
            lock.check()
    assert lock.is_current()


def test_a_thread_that_checks_it_does_not_make_it_seem_lost(lock: LockFile) -> None:
    """Files are examined in a thread, while the event loop reads whether the lock is held."""
    assert lock.acquire() is not None
    stop = threading.Event()

    def check() -> None:
        while not stop.is_set():
            lock.check()
            lock.is_current()

    checking = threading.Thread(target=check)
    checking.start()
    try:
        assert all(lock.is_held() for _ in range(20_000))
    finally:
        stop.set()
        checking.join()
