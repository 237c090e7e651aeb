"""Ends a worker that was stopped, or hangs, within a transaction of the ledger: until then nobody else can write.

Followers end such a leader (``fencing/warden.py``), and a database server ends such a session itself.
"""

from __future__ import annotations

import contextlib
import os

from election.core.events import named
from election.core.logs import log
from election.core.process import pinned
from election.core.term import Standing

from .directory import PoolDirectory
from .leader_record import LeaderRecordFile
from .lock_holders import describe_process, find_writer, is_waiting_for_disk
from .presence import is_worker

POLL_INTERVAL_S = 1.0
"""Seconds of waiting between two looks at the writer."""

MIN_WAIT_S = 10.0
"""Minimum seconds of waiting before a writer is ended: twice what a healthy one may wait for readers of the ledger."""


class StalledWriter:
    """The process for which the ledger's writers wait; used in the thread of the database.

    It is ended if it is a worker of this pool that does not lead, and if during ``after`` seconds of waiting each look
    found that it holds the lock, has written nothing, and does not wait for its disk.

    Args:
        directory: Directory of the pool.
        after: Seconds of waiting, at least ``MIN_WAIT_S``. Those of this process alone count, so that none count while
            it is stopped itself.
    """

    def __init__(self, directory: PoolDirectory, *, after: float) -> None:
        self._directory = directory
        self._record = LeaderRecordFile(directory.record)
        self._after = max(after, MIN_WAIT_S)
        self._seen: tuple[int, int, int] | None = None
        self._waited_s = 0.0

    def count_wait(self, seconds: float) -> bool:
        """Look at the writer after ``seconds`` of waiting. Returns whether it was ended."""
        seen = self._look()
        if seen is None or seen != self._seen:
            self._seen, self._waited_s = seen, 0.0
            return False
        self._waited_s += seconds
        if self._waited_s < self._after:
            return False
        waited, self._waited_s = self._waited_s, 0.0
        with contextlib.suppress(OSError), pinned(seen[0]) as kill:  # gone meanwhile, or no permission
            if self._look() == seen:
                log.error(
                    "ending %s, a worker: it has kept the ledger locked for %.1f s within a transaction, and does not"
                    " go on with it",
                    describe_process(seen[0]), waited, extra=named("stalled_writer_killed"),
                )  # fmt: skip
                kill()
                return True
        return False

    def _look(self) -> tuple[int, int, int] | None:
        """Pid of a follower that keeps the lock, and state of what it has written; None for any other process."""
        try:
            os.utime(self._directory.ledger)  # waits for a disk that stands still
            pid = find_writer(self._directory.ledger)
            if pid is None or is_waiting_for_disk(pid) or not is_worker(self._directory.workers, pid):
                return None
            record = self._record.read()
            if record is not None and record.standing is Standing.LEADING and record.holder.pid == pid:
                return None  # its heartbeat decides
            return pid, *self._written()
        except OSError:
            return None

    def _written(self) -> tuple[int, int]:
        try:
            found = os.stat(f"{self._directory.ledger}-wal")
        except FileNotFoundError:
            return 0, 0
        return found.st_size, found.st_mtime_ns
