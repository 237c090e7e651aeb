"""Presence in the pool: one small file per worker, valid only while that process lives."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace

from pydantic import TypeAdapter, ValidationError

from election.core.backend import Worker
from election.core.clock import Clock
from election.core.process import ProcessIdentity

from .atomic_files import read_file, replace_file

LIST_MAX_AGE_S = 0.05
"""Seconds for which a list of workers is cached."""

TOUCH_INTERVAL_S = 10.0
"""Seconds between two touches of an entry."""

FOREIGN_MAX_AGE_S = 40.0
"""Seconds without a touch after which a worker that cannot be inspected from here counts as gone: its container
was killed, and no process is left to remove its entry (docs/pitfalls.md#68)."""

PROBLEM = ".problem"
"""End of the name of a file beside an entry: why the worker cannot lead."""

MAX_PROBLEM_BYTES = 4096

_FORMAT = TypeAdapter(Worker)


class Presence:
    """This worker's entry in the pool, and a view of all."""

    def __init__(self, directory: str, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._entry: str | None = None
        self._worker: Worker | None = None
        self._problem: str | None = None
        self._read: dict[str, Worker] = {}
        self.listed: list[Worker] = []
        """Live workers at the last read, oldest first."""
        self._listed_at = float("-inf")
        self._touched_at = float("-inf")

    def enter(self, worker: Worker) -> None:
        """Take part as ``worker``; before the pool's directory exists, ``renew`` writes the entry later.

        Raises:
            OSError: The entry could not be written.
        """
        self._worker, self._problem = worker, None
        self._entry = os.path.join(self._directory, f"{worker.process.pid}-{worker.process.start_time}.json")
        self.listed, self._listed_at = [worker], float("-inf")
        with contextlib.suppress(FileNotFoundError):
            self.renew()

    def renew(self) -> None:
        """Write the entry and the problem if they are missing, and touch the entry every ``TOUCH_INTERVAL_S``."""
        if self._entry is None or self._worker is None:
            return
        if self._problem is not None and not os.path.exists(f"{self._entry}{PROBLEM}"):
            self._write_problem(self._problem)
        now = self._clock.monotonic()
        if not os.path.exists(self._entry):
            replace_file(self._entry, _FORMAT.dump_json(self._worker))
        elif now - self._touched_at >= TOUCH_INTERVAL_S:
            os.utime(self._entry)
        else:
            return
        self._touched_at = now

    def report(self, problem: str | None) -> None:
        """Write why this worker cannot lead beside its entry; None if it can. ``renew`` writes it again if it is lost.

        Raises:
            OSError: That could not be written now.
        """
        if self._entry is None:
            return
        self._problem = problem
        if problem is not None:
            self._write_problem(problem)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self._entry}{PROBLEM}")

    def _write_problem(self, problem: str) -> None:
        replace_file(f"{self._entry}{PROBLEM}", problem.encode(errors="replace")[:MAX_PROBLEM_BYTES])

    def leave(self) -> None:
        """Remove the entry, but only in the process that it names: a forked child may run its parent's clean-up."""
        if self._entry is not None and self._worker is not None and self._worker.process.pid == os.getpid():
            _unlink(self._entry)
            self._entry = None

    def look(self) -> list[Worker]:
        """Live workers, oldest first; a worker also removes the entries of dead ones."""
        if not self.is_fresh():
            self.listed, self._listed_at = self._look(), self._clock.monotonic()
        return self.listed

    def list_elders(self) -> list[ProcessIdentity]:
        """Processes of the live workers that may lead and took part before this one, oldest first."""
        own = None if self._worker is None else self._worker.process
        workers = [worker.process for worker in self.look() if worker.candidate or worker.process == own]
        return workers[: workers.index(own)] if own in workers else workers

    def is_fresh(self) -> bool:
        """Whether the cached list is recent enough to be used."""
        return self._clock.monotonic() - self._listed_at <= LIST_MAX_AGE_S

    def _look(self) -> list[Worker]:
        found = {}
        try:
            names = os.listdir(self._directory)
        except OSError:
            return [self._worker] if self._worker else []
        problems = {name for name in names if name.endswith(PROBLEM)}
        for name in names:
            if name in problems:
                continue
            path = os.path.join(self._directory, name)
            try:
                worker = self._read.get(name) or _FORMAT.validate_json(read_file(path) or b"")
                alive = worker.process.is_alive()
                gone = alive is False or (alive is None and self._is_old(path))
            except (OSError, ValidationError):
                continue
            if not gone:
                self._read[name] = worker
                if f"{name}{PROBLEM}" in problems:
                    worker = replace(worker, problem=_read_text(f"{path}{PROBLEM}"))
                found[worker.process] = worker  # once, though its entry may be seen in the middle of a rename
            else:  # the name holds the start time, so it cannot be a successor's with the same pid
                self._read.pop(name, None)
                if self._worker is not None:
                    _unlink(path)
        return sorted(found.values(), key=lambda worker: (worker.started_at, worker.process.pid))

    def _is_old(self, path: str) -> bool:
        return self._clock.now().timestamp() - os.stat(path).st_mtime > FOREIGN_MAX_AGE_S


def is_worker(directory: str, pid: int) -> bool:
    """Whether a process of this host is a worker with an entry in ``directory``, and alive. Raises ``OSError``."""
    for name in os.listdir(directory):
        if name.startswith(f"{pid}-") and not name.endswith(PROBLEM):
            with contextlib.suppress(ValidationError):
                process = _FORMAT.validate_json(read_file(os.path.join(directory, name)) or b"").process
                if process.pid == pid and process.is_neighbour() and process.is_alive():
                    return True
    return False


def _unlink(entry: str) -> None:
    """Remove an entry and what is beside it."""
    for path in (f"{entry}{PROBLEM}", entry):
        with contextlib.suppress(OSError):
            os.unlink(path)


def _read_text(path: str) -> str | None:
    try:
        return (read_file(path) or b"").decode(errors="replace") or None
    except OSError:
        return None
