"""Care of SQLite's log beside the work, so that no claim waits for the disk: the log is synced, and checkpointed.

SQLite itself syncs the log of a ledger that is not ``durable`` at a checkpoint only: a power cut would take a whole
young ledger, and not the last claims (docs/pitfalls.md#78). A checkpoint waits for the disk, mostly for a millisecond
or two and now and then for a tenth of a second. A log that is kept short is also read sooner by the next leader: SQLite
takes 0.6 ms for each MB of it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time

from .atomic_files import sync_directory

log = logging.getLogger("election")

WRITES_PER_CHECKPOINT = 64
"""Transactions after which it is time for a checkpoint: some 8 pages of 4 KiB each."""

INTERVAL_S = 1.0
"""Seconds from a transaction until it is on the disk, about; and between two checkpoints at least."""

MAX_WAL_PAGES = 8000
"""Pages in the log with which a transaction has to do it after all, because this has not kept up with it."""


class Checkpoints:
    """Syncs and checkpoints of one database file, one at a time, in threads of their own.

    Args:
        path: Database file.
        uri: The same as SQLite wants to have it.
        syncs: Whether the log is synced; not needed where each transaction does that.
    """

    def __init__(self, path: str, uri: str, *, syncs: bool) -> None:
        self._path = path
        self._uri = uri
        self._syncs = syncs
        self._lock = threading.Lock()
        """Held for moments: what is written meanwhile is seen before the thread ends."""
        self._writes = 0
        self._unsynced = False
        self._named = False
        self._last = float("-inf")
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()

    def written(self) -> None:
        """Count a transaction, and begin a thread that takes care of it. Never waits."""
        with self._lock:
            self._writes += 1
            self._unsynced = self._syncs
            if self._thread is not None or not self._is_needed():
                return
            thread = threading.Thread(target=self._take_care, name="election-checkpoint", daemon=True)
            with contextlib.suppress(RuntimeError):  # no thread can be started: the next transaction tries
                thread.start()
                self._thread = thread

    def end(self) -> None:
        """Sync what is written, and wait for what is under way."""
        self._ending.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _is_needed(self) -> bool:
        return self._unsynced or self._writes >= WRITES_PER_CHECKPOINT

    def _take_care(self) -> None:
        """Go on until nothing is left to do, with pauses."""
        while True:
            self._ending.wait(max(0.0, self._last + INTERVAL_S - time.monotonic()))
            self._last = time.monotonic()
            with self._lock:
                self._unsynced, is_long = False, self._writes >= WRITES_PER_CHECKPOINT
                if is_long:
                    self._writes = 0
            if is_long:
                self._checkpoint()  # syncs the log first
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
        except (OSError, AttributeError) as error:  # what is wrong with the file, the next transaction tells
            log.debug("no sync: %s", error)

    def _sync_names(self) -> None:
        """Sync the directory once: the files are new, perhaps."""
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
        except sqlite3.Error as error:  # what is wrong with the file, the next transaction tells
            log.debug("no checkpoint: %s", error)
