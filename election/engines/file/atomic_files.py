"""Atomic writes of small files, and a number that only grows (docs/pitfalls.md#14, #37)."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from filelock import lock_descriptor, unlock_descriptor

from election.core.errors import SeatError

_DATASYNC = getattr(os, "fdatasync", os.fsync)


def replace_file(path: str, content: bytes) -> None:
    """Write beside ``path`` and rename over it: a reader sees the old content or the new, never a part."""
    with _written_beside(path, content) as beside:
        os.replace(beside, path)


def create_file(path: str, content: bytes) -> bool:
    """Like ``replace_file``, but only if nothing exists at ``path``; returns whether that was the case."""
    with _written_beside(path, content) as beside:
        try:
            os.link(beside, path)
        except FileExistsError:
            return False
        return True


@contextlib.contextmanager
def _written_beside(path: str, content: bytes) -> Iterator[str]:
    beside = f"{path}.{os.getpid()}.new"
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            _whole(os.write(descriptor, content), content, path)
        finally:
            os.close(descriptor)
        yield beside
    finally:
        with contextlib.suppress(OSError):
            os.unlink(beside)


def _whole(written: int, content: bytes, path: str) -> None:
    if written != len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def sync_directory(path: str) -> None:
    """Sync the names in a directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directories(path: str, mode: int) -> None:
    """Make a directory and its missing parents, synced so that a power cut does not undo them."""
    parent = os.path.dirname(path)
    if not os.path.lexists(parent):
        make_directories(parent, 0o777)
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
    else:
        sync_directory(parent)


def read_file(path: str, at_most: int = 65536) -> bytes | None:
    """The content of ``path``, or None if there is no such file or it is not a plain one."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return os.read(descriptor, at_most)
    except IsADirectoryError:
        return None
    finally:
        os.close(descriptor)


class DurableNumber:
    """A number that only grows, synced before it is published; never deleted (P2, docs/pitfalls.md#37).

    The file is overwritten in place, twenty digits in one sector, which costs one ``fdatasync`` and no journal commit.
    A flock on its file excludes other writers of number and record: the lock file may be swapped, so that two workers
    hold "the" flock, but this file is never deleted.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._locked: tuple[int, int] | None = None
        """Process and descriptor that hold the flock."""

    def try_lock(self) -> bool:
        """Take the flock on the file, without waiting for it; returns whether it was free."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        free = False
        try:
            free = lock_descriptor(descriptor, blocking=False)
        finally:
            if not free:
                os.close(descriptor)
        if free:
            self._locked = os.getpid(), descriptor
            _flocked.add(self)
        return free

    def unlock(self) -> None:
        """Free the flock if it is held; a forked child closes its copy of the descriptor only."""
        if self._locked is None:
            return
        (pid, descriptor), self._locked = self._locked, None
        _flocked.discard(self)
        try:
            if pid == os.getpid():
                unlock_descriptor(descriptor)  # a child that was forked meanwhile has a copy of the descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def locked(self) -> Iterator[bool]:
        """Hold the flock within the scope; yields whether it was free."""
        free = self.try_lock()
        try:
            yield free
        finally:
            if free:
                self.unlock()

    def read(self) -> int:
        """Last number written; 0 if there is none or it cannot be parsed."""
        return _number(read_file(self._path, 64))

    def write(self, number: int) -> None:
        """Store ``number``, and wait for the disk.

        Raises:
            SeatError: The number was already used by a worker that was elected on another lock file while this one
                was stopped (docs/pitfalls.md#4).
        """
        content = b"%020d\n" % number
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            before = os.pread(descriptor, 64, 0)
            fresh = not before
            if _number(before) >= number:
                raise SeatError(f"term {number} was begun by somebody else meanwhile")
            _whole(os.pwrite(descriptor, content, 0), content, self._path)
            _DATASYNC(descriptor)
        finally:
            os.close(descriptor)
        if fresh:
            sync_directory(os.path.dirname(self._path))


_flocked: set[DurableNumber] = set()
"""Numbers whose flock is held."""


def _close_in_child() -> None:
    """Close the flocked descriptors in a forked child, which would otherwise keep everybody from a term after its
    parent's death (docs/pitfalls.md#1).
    """
    for number in list(_flocked):
        with contextlib.suppress(OSError):
            number.unlock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


def _number(content: bytes | None) -> int:
    line = (content or b"").partition(b"\n")[0]  # older content may reach beyond the number
    return int(line) if line.isdigit() else 0
