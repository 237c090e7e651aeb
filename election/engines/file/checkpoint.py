"""WAL checkpoints of SQLite beside the work, so that no claim has to wait for one.

A checkpoint waits for the disk, mostly for a millisecond or two and now and then for a tenth of a second. A log that is
kept short is also read sooner by the next leader: SQLite takes 0.6 ms for each MB of it.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time

log = logging.getLogger("election")

WRITES_PER_CHECKPOINT = 64
"""Transactions after which it is time for a checkpoint: some 8 pages of 4 KiB each."""

MIN_INTERVAL_S = 1.0
"""Seconds between two checkpoints at least."""

MAX_WAL_PAGES = 8000
"""Pages in the log with which a transaction has to do it after all, because this has not kept up with it."""


class Checkpoints:
    """Those of one database file, one at a time, in threads of their own.

    uri: the file as SQLite wants to have it.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._writes = 0
        self._last = 0.0
        self._thread: threading.Thread | None = None

    def written(self) -> None:
        """Count a transaction, and begin a checkpoint if it is time for one. Never waits."""
        self._writes += 1
        if self._writes < WRITES_PER_CHECKPOINT or time.monotonic() - self._last < MIN_INTERVAL_S:
            return
        if self._thread is not None and self._thread.is_alive():
            return
        self._writes, self._last = 0, time.monotonic()
        self._thread = threading.Thread(target=self._checkpoint, name="election-checkpoint", daemon=True)
        with contextlib.suppress(RuntimeError):  # no thread can be started: the limit is there still
            self._thread.start()

    def end(self) -> None:
        """Wait for the one that is under way."""
        if self._thread is not None and self._thread.is_alive():
            self._thread.join()

    def _checkpoint(self) -> None:
        try:
            with contextlib.closing(
                sqlite3.connect(self._uri, uri=True, timeout=0, isolation_level=None)
            ) as connection:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:  # what is wrong with the file, the next transaction tells
            log.debug("no checkpoint: %s", error)
