"""WAL sync and checkpoint in a thread, so that no claim waits for the disk.

SQLite itself syncs the WAL of a ledger that is not ``durable`` at a checkpoint only: a power cut would lose a whole
young ledger, not just the last claims (docs/pitfalls.md#78). A checkpoint waits for the disk, mostly for one or two
milliseconds, sometimes for a tenth of a second. The next leader also reads a short WAL sooner: SQLite takes 0.6 ms for
each MB.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time

from election.core.logs import log

from .atomic_files import sync_directory

WRITES_PER_CHECKPOINT = 64
"""Transactions between two checkpoints; a transaction writes some 8 pages of 4 KiB."""

INTERVAL_S = 1.0
"""Approximate seconds from a transaction to its sync, and minimum between two checkpoints."""

MAX_WAL_PAGES = 8000
"""Pages in the WAL at which a transaction checkpoints by itself, because the thread has not kept up."""


class Checkpoints:
    """Syncs and checkpoints of one database file, one at a time, in separate threads.

    Args:
        path: Database file.
        uri: URI of that file for SQLite.
        syncs: Whether to sync the WAL; not needed where each transaction does.
    """

    def __init__(self, path: str, uri: str, *, syncs: bool) -> None:
        self._path = path
        self._uri = uri
        self._syncs = syncs
        self._lock = threading.Lock()
        """Held briefly, so that the thread reads each write before it ends."""
        self._writes = 0
        self._unsynced = False
        self._named = False
        self._last = float("-inf")
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()

    def written(self) -> None:
        """Count a transaction, and start the thread if needed. Never waits."""
        with self._lock:
            self._writes += 1
            self._unsynced = self._syncs
            if self._thread is not None or not self._is_needed():
                return
            thread = threading.Thread(target=self._take_care, name="election-checkpoint", daemon=True)
            with contextlib.suppress(RuntimeError):  # no thread can be started: the next transaction retries
                thread.start()
                self._thread = thread

    def end(self) -> None:
        """Sync pending writes, and wait for the thread."""
        self._ending.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _is_needed(self) -> bool:
        return self._unsynced or self._writes >= WRITES_PER_CHECKPOINT

    def _take_care(self) -> None:
        """Sync and checkpoint, with pauses, until nothing is left to do."""
        while True:
            self._ending.wait(max(0.0, self._last + INTERVAL_S - time.monotonic()))
            self._last = time.monotonic()
            with self._lock:
                self._unsynced, is_long = False, self._writes >= WRITES_PER_CHECKPOINT
                if is_long:
                    self._writes = 0
            if is_long:
                self._checkpoint()  # syncs the WAL first
            else:
                self._sync()
            self._sync_names()
            with self._lock:
                if not self._is_needed():
                    self._thread = None
                    return

    def _sync(self) -> None:
        try:
            descriptor = os.open(f"{self._path}-wal", os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
        except (OSError, AttributeError) as error:  # the next transaction reports a broken file
            log.debug("no sync: %s", error)

    def _sync_names(self) -> None:
        """Sync the directory once: the files may be new."""
        if not self._syncs or self._named:
            return
        try:
            sync_directory(os.path.dirname(self._path))
            self._named = True
        except OSError as error:
            log.debug("no sync of the directory: %s", error)

    def _checkpoint(self) -> None:
        try:
            with contextlib.closing(
                sqlite3.connect(self._uri, uri=True, timeout=0, isolation_level=None)
            ) as connection:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:  # the next transaction reports a broken file
            log.debug("no checkpoint: %s", error)
