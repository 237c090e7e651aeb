"""A real pool: run.py with its workers, looked at from outside, signalled by pid, and reaped whatever happens."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import psutil

from .facts import Facts
from .ports import free_port
from .waiting import until

ROOT = Path(__file__).parents[2]


class Pool:
    """run.py on a free port of the loopback interface, serving ``tests.pool.app``.

    directory: for the pool's own directory, the facts and the log. pool: another directory for it, or a URL.
    """

    def __init__(
        self,
        directory: Path,
        *,
        workers: int = 4,
        jobs: str = "tick",
        pool: Path | str | None = None,
        environment: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path: Path | str = pool or directory / "pool"
        self.workers = workers
        self.port = free_port()
        self.log = directory / "log"
        self.facts_path = directory / "facts"
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "FACTS": str(self.facts_path),
            "JOBS": jobs,
            "PYTHONUNBUFFERED": "1",
            **(environment or {}),
        }
        self._cwd = cwd
        self._client = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=10)
        self._ever: dict[int, psutil.Process] = {}
        self.parent: subprocess.Popen[bytes] | None = None

    # --- its life -------------------------------------------------------------------------------------------------

    def start(self) -> Pool:
        """Start it, and wait until somebody leads and all workers are there."""
        self.launch()
        self.settled()
        return self

    def launch(self) -> None:
        """Start it, and wait for nothing."""
        command = [
            sys.executable,
            str(ROOT / "tests/support/serve.py"),
            "--port",
            str(self.port),
            "--workers",
            str(self.workers),
        ]
        with self.log.open("ab") as log:
            self.parent = subprocess.Popen(
                [*command, "--pool", str(self.path)],
                cwd=self._cwd,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that Ctrl-C can be sent to all of it, and to nothing else
            )

    def reap(self) -> None:
        """End every process that belongs to it, however it got lost."""
        self.processes()
        for process in self._ever.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self.parent is not None:
            with contextlib.suppress(ProcessLookupError):
                self.parent.kill()
            self.parent.wait()
        psutil.wait_procs(list(self._ever.values()), timeout=10)
        self._client.close()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Tell the parent to stop; returns its exit code once all its processes are gone."""
        assert self.parent is not None
        self.processes()
        self.parent.send_signal(number)
        code = self.parent.wait(60)
        until(lambda: not self.left(), what="every process of the pool is gone")
        return code

    def interrupt(self) -> int:
        """Ctrl-C: SIGINT to the whole foreground process group, as a terminal sends it."""
        assert self.parent is not None
        self.processes()
        os.killpg(self.parent.pid, signal.SIGINT)
        code = self.parent.wait(60)
        until(lambda: not self.left(), what="every process of the pool is gone")
        return code

    @classmethod
    def watching(cls, pool: Pool) -> Pool:
        """Another client of the same pool, for another thread."""
        other = copy.copy(pool)
        other._client = httpx2.Client(base_url=f"http://127.0.0.1:{pool.port}", timeout=10)
        return other

    # --- what can be seen -----------------------------------------------------------------------------------------

    def ask(self, path: str = "/leader") -> httpx2.Response | None:
        """What a worker answers; None if none could be reached, or the one that was reached died."""
        try:
            return self._client.get(path, headers={"Connection": "close"})
        except httpx2.TransportError:
            return None

    def leader(self, *, but: int | None = None) -> dict[str, Any]:
        """The document, as soon as there is a leader whose work runs and who is not ``but``."""

        def led() -> dict[str, Any] | None:
            answer = self.ask()
            found = answer.json() if answer is not None and answer.status_code == 200 else None
            if found is None or found["leader"]["pid"] == but or found["last_takeover"]["takeover_ms"] is None:
                return None
            return dict(found)

        return until(led, what=f"somebody other than {but} leads; log: {self.log}")

    def settled(self) -> dict[str, Any]:
        """The document, once there is a leader and every worker is in its place, and alive by the system's word."""

        def whole() -> dict[str, Any] | None:
            found = self.leader()
            alive = {process.pid for process in self.processes()}
            named = [worker["pid"] for worker in found["workers"]]
            return found if len(named) == self.workers and alive.issuperset(named) else None

        patience = max(60, 15 * self.workers)  # each takes seconds of a busy core for its imports
        return until(whole, timeout=patience, what=f"{self.workers} workers; log: {self.log}")

    def record(self) -> dict[str, Any]:
        """The leader record on disk."""
        return dict(json.loads((Path(self.path) / "leader.json").read_bytes()))

    def facts(self) -> Facts:
        return Facts.read(self.facts_path)

    def processes(self) -> list[psutil.Process]:
        """The parent and its children that are alive now."""
        assert self.parent is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.parent.pid)
            for process in [parent, *parent.children(recursive=True)]:
                self._ever.setdefault(process.pid, process)
        return self.left()

    def left(self) -> list[psutil.Process]:
        """The processes that were ever seen to belong to it and live."""
        return [process for process in self._ever.values() if _lives(process)]

    def verify(self) -> tuple[int, str]:
        """``python -m election verify``: its exit code and what it says."""
        done = subprocess.run(
            [sys.executable, "-m", "election", "verify", "--pool", str(self.path)],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # gone between the two
        return False


@contextlib.contextmanager
def pools(directory: Path) -> Iterator[Callable[..., Pool]]:
    """Makes pools, not started yet; afterwards those that were started are reaped."""
    made: list[Pool] = []

    def make(**options: Any) -> Pool:
        made.append(Pool(directory / str(len(made)), **options))
        return made[-1]

    try:
        yield make
    finally:
        for pool in made:
            if pool.parent is not None:
                pool.reap()


@contextlib.contextmanager
def quiet_pools(directory: Path) -> Iterator[Callable[..., Pool]]:
    """The same, and no log may hold a traceback by the end of the scope; not later, because a child whose parent is
    reaped while it starts says so with one."""
    with pools(directory) as make:
        yield make
        for log in directory.glob("*/log"):
            text = log.read_text()
            assert "Traceback" not in text, text[-4000:]
