"""Presence in the pool: one small file per worker, valid only while that very process lives."""

from __future__ import annotations

import contextlib
import os

from pydantic import TypeAdapter, ValidationError

from election.core.backend import Worker
from election.core.clock import Clock

from .atomic_files import read_file, replace_file

LIST_MAX_AGE_S = 0.05
"""Seconds for which a list of workers is cached."""

_FORMAT = TypeAdapter(Worker)


class Presence:
    """This worker's entry in the pool, and a view of all."""

    def __init__(self, directory: str, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._entry: str | None = None
        self._worker: Worker | None = None
        self._read: dict[str, Worker] = {}
        self._listed: list[Worker] = []
        self._listed_at = float("-inf")

    def enter(self, worker: Worker) -> None:
        """Take part as ``worker``; before the pool's directory exists, ``renew`` writes the entry later.

        Raises:
            OSError: The entry could not be written.
        """
        self._worker = worker
        self._entry = os.path.join(self._directory, f"{worker.process.pid}-{worker.process.start_time}.json")
        with contextlib.suppress(FileNotFoundError):
            self.renew()

    def renew(self) -> None:
        """Write the entry if it is missing."""
        if self._entry is not None and self._worker is not None and not os.path.exists(self._entry):
            replace_file(self._entry, _FORMAT.dump_json(self._worker))

    def leave(self) -> None:
        """Remove the entry, but only in the process that it names: a forked child may run its parent's clean-up."""
        if self._entry is not None and self._worker is not None and self._worker.process.pid == os.getpid():
            with contextlib.suppress(OSError):
                os.unlink(self._entry)
            self._entry = None

    def workers(self) -> list[Worker]:
        """Live workers, oldest first; a worker removes the entries of dead ones on the way."""
        now = self._clock.monotonic()
        if now - self._listed_at > LIST_MAX_AGE_S:
            self._listed, self._listed_at = self._look(), now
        return self._listed

    def _look(self) -> list[Worker]:
        found = {}
        try:
            names = os.listdir(self._directory)
        except OSError:
            return [self._worker] if self._worker else []
        for name in names:
            path = os.path.join(self._directory, name)
            try:
                worker = self._read.get(name) or _FORMAT.validate_json(read_file(path) or b"")
                gone = worker.process.is_alive() is False
            except (OSError, ValidationError):
                continue
            if not gone:
                self._read[name] = worker
                found[worker.process] = worker  # once, though its entry may be seen in the middle of a rename
            else:  # the name holds the start time, so it cannot be a successor's with the same pid
                self._read.pop(name, None)
                if self._worker is not None:
                    with contextlib.suppress(OSError):
                        os.unlink(path)
        return sorted(found.values(), key=lambda worker: (worker.started_at, worker.process.pid))
