"""A pool of real workers under a real server: started, observed from outside, killed by pid, and ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import psutil

from . import facts

ROOT = Path(__file__).parents[1]
LOOK_EVERY = 0.1
"""Seconds between two polls for a fact, which carries its own time: more polls would disturb the measurement."""

LIMIT = 180.0
"""Seconds after which an expected fact is given up."""

_T = TypeVar("_T")


class Pool:
    """``uvicorn MODULE:app --workers N`` with the facts and the state of that system in ``directory``.

    module: a module of ``bench.systems``, or a whole command in place of Uvicorn's.
    ready: the fact that every worker writes when it takes part.
    """

    def __init__(
        self,
        module: str,
        directory: Path,
        *,
        workers: int = 4,
        environment: Mapping[str, str] | None = None,
        command: list[str] | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._name = module
        self.workers = workers
        self.port = free_port()
        self.facts_path = directory / "facts"
        self.log = directory / "log"
        self._command = command or [
            "-m", "uvicorn", f"bench.systems.{module}:app", "--port", str(self.port), "--workers", str(workers),
            "--log-level", "warning", "--no-access-log",
        ]  # fmt: skip
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "BENCH_FACTS": str(self.facts_path),
            "BENCH_STATE": str(directory / "state"),
            "BENCH_WORKERS": str(workers),
            **(environment or {}),
        }
        self._parent: subprocess.Popen[bytes] | None = None
        self._read = facts.Reader(self.facts_path)
        self._dead: set[int] = set()

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            self._parent = subprocess.Popen(
                [sys.executable, *(part.replace("{port}", str(self.port)) for part in self._command)],
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._parent is not None
        known = self.processes()
        self._parent.terminate()
        psutil.wait_procs(known, timeout=15)
        with contextlib.suppress(ProcessLookupError):  # orphans too, left by a killed parent
            os.killpg(self._parent.pid, signal.SIGKILL)
        self._parent.wait()

    def processes(self) -> list[psutil.Process]:
        """The parent and all of its descendants."""
        assert self._parent is not None
        with _gone():
            parent = psutil.Process(self._parent.pid)
            return [parent, *parent.children(recursive=True)]
        return []

    def facts(self, after: int = 0) -> list[facts.Fact]:
        """Facts after a time in nanoseconds, in order."""
        return [fact for fact in self._read() if fact.at > after]

    def pids(self) -> set[int]:
        """Live workers that reported to be ready."""
        told = {fact.pid for fact in self.facts() if fact.what == "ready"}
        self._dead |= {pid for pid in told - self._dead if not _lives(pid)}
        return told - self._dead

    def whole(self) -> None:
        """Wait until all workers take part, including replacements of killed ones."""
        self.until(lambda: len(self.pids()) >= self.workers)

    def leader(self) -> int:
        """Pid of the latest leader by the facts; waits for one that is alive."""

        def found() -> int | None:
            told = [fact.pid for fact in self.facts() if fact.what == "leads"]
            return told[-1] if told and _lives(told[-1]) else None

        return self.until(found)

    def kill(self, pid: int, number: signal.Signals = signal.SIGKILL) -> int:
        """Signal a worker; return the time just before, in nanoseconds on the monotonic clock."""
        at = time.monotonic_ns()
        os.kill(pid, number)
        return at

    def next_leads(self, after: int, *, but: int, limit: float = LIMIT) -> float:
        """Milliseconds from ``after`` until a worker other than ``but`` reported to lead."""

        def found() -> float | None:
            told = [each for each in self.facts(after) if each.what == "leads" and each.pid != but]
            return (told[0].at - after) / 1e6 if told else None

        return self.until(found, limit=limit)

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return bytes(answer.read())

    def until(self, found: Callable[[], _T | None], *, limit: float = LIMIT) -> _T:
        """Return the value of ``found`` as soon as it is true. Raises ``TimeoutError`` with the end of the log."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            if (value := found()) is not None and value is not False:
                return value
            time.sleep(LOOK_EVERY)
        last = [f"{fact.pid} {fact.what} {fact.more}" for fact in self.facts()[-20:]]
        raise TimeoutError(f"{self._name}: not within {limit:g} s; {last}; the log: {self.log.read_text()[-2000:]}")


class _gone:  # noqa: N801  used as a statement
    """Suppress the error for a process that has ended."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> bool:
        return kind is not None and issubclass(kind, psutil.NoSuchProcess)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
