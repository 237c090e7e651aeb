"""Non-blocking flock through ``filelock``, verified on each use.

Remedies for docs/pitfalls.md#2–#4, #7–#9 and #22.
"""

from __future__ import annotations

import errno
import os

from filelock import FileLock, Timeout, lock_descriptor

from election.core.errors import SeatError, SeatLostError

Identity = tuple[int, int]
"""Device and inode of a file, independent of its path."""


class LockFile:
    """An exclusive flock on a file that is never unlinked and never written.

    Builds its ``FileLock`` at first use, never at import: one that was made before a fork is refused after it.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock: FileLock | None = None
        self._descriptor = -1
        self._identity: Identity | None = None
        self._pid = 0
        self._named = False
        """Whether the path named the locked file at the last check."""

    @property
    def identity(self) -> Identity | None:
        """Device and inode of the locked file; None when nothing is held."""
        return self._identity

    @property
    def descriptor(self) -> int:
        """Descriptor of the lock file since the last acquisition; -1 before."""
        return self._descriptor

    def current(self) -> Identity | None:
        """Identity of the file that the path names now, locked or not; None if there is none."""
        try:
            named = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return named.st_dev, named.st_ino

    def acquire(self) -> Identity | None:
        """Try once to take the flock.

        Returns:
            Identity of the locked file; None if another process holds the flock, or the path now names another file.

        Raises:
            SeatError: An error other than contention: ENOSPC, EROFS, ENOLCK, EIO, EMFILE and the like.
        """
        if self._lock is None or self._pid != os.getpid():
            self._pid, self._identity = os.getpid(), None  # a forked child holds nothing yet
            self._lock = FileLock(
                self._path,
                mode=0o600,
                thread_local=False,
                fallback_to_soft=False,
                preserve_lock_file=True,
                on_acquired=self._acquired,
            )
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return None
        except OSError as error:
            raise SeatError(f"{self._path} cannot be locked: {_describe(error)}") from error
        if self.is_current():
            return self._identity
        self.release()  # the file was replaced between open and flock
        return None

    def is_current(self) -> bool:
        """Whether this process holds the flock and the path still names the locked file. Two ``stat``s, no more."""
        try:
            return self._identity is not None and self._pid == os.getpid() and self._differs() is None
        except OSError:
            return False

    def is_held(self) -> bool:
        """Whether this process holds the flock, by its descriptor and the last check of the path; no disk access."""
        return self._named and self._pid == os.getpid() and _is(self._descriptor, self._identity)

    def check(self) -> None:
        """Thorough check for the heartbeat. Raises ``SeatLostError`` that names the difference."""
        try:
            differs = self._differs()
            # A held flock can be requested again at no cost; if a forked child released it, the request may fail.
            if differs is None and not lock_descriptor(self._descriptor, blocking=False):
                differs = "the flock was released by other code, and another process took it"
        except OSError as error:
            differs = f"the lock file cannot be inspected: {error.strerror}"
        if differs:
            raise SeatLostError(f"{self._path}: {differs}")

    def release(self) -> None:
        """Free the flock, but only in the process that took it: in a forked child that would free the parent's."""
        lock, identity = self._lock, self._identity
        self._identity = None
        if lock is None or identity is None or self._pid != os.getpid():
            return
        if not _is(self._descriptor, identity):  # closed by other code, and so no longer locked
            _ABANDONED.append(lock)
            self._lock = None
            return
        try:
            lock.release(force=True)
        except OSError as error:
            raise SeatError(f"{self._path} cannot be unlocked: {_describe(error)}") from error

    def _acquired(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        self._descriptor, self._identity, self._named = descriptor, (found.st_dev, found.st_ino), True

    def _differs(self) -> str | None:
        """Problem text of the lock; None if there is none. Caches the result for ``is_held``; runs in any thread."""
        try:
            found = self._difference()
        except OSError:
            self._named = False
            raise
        self._named = found is None
        return found

    def _difference(self) -> str | None:
        if not _is(self._descriptor, self._identity):
            return "other code in this process closed the descriptor of the lock"
        current = self.current()
        if current is None:
            return "the lock file was removed or renamed"
        return None if current == self._identity else "the lock file was replaced by another"


_ABANDONED: list[FileLock] = []
"""Locks whose descriptor now belongs to another file; kept, because filelock would close it at garbage collection."""


def _is(descriptor: int, identity: Identity | None) -> bool:
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == identity


def _describe(error: OSError) -> str:
    return f"{error.strerror} ({errno.errorcode.get(error.errno or 0, error.errno)})"
