"""Served pools: servers with worker processes, started by a command, observed over HTTP, signalled by pid, and reaped.

A server is a value, a :class:`ServerCommand`. :class:`Pool` runs one of them, ``run.py`` unless told otherwise;
:class:`WorkerPool` runs single workers, each on a port of its own, where a test has to choose the worker that answers.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psutil

from .facts import Facts
from .forked_commands import run_command
from .ports import free_port
from .waiting import LIMIT, until

ROOT = Path(__file__).parents[2]

TOKEN = "open sesame, if you please"
"""Admin token of every served pool."""

AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
POLL = 0.02
"""Seconds between two requests of one wait: each takes time of the cores that the workers need."""

SAFETY_POLL_S = 0.3
"""Of single workers; for as long as that, one that has resigned leaves the seat to the others."""

SECONDS_PER_WORKER = 15
"""Time limit for the start of one worker: its imports take seconds of a busy core."""


@dataclass(frozen=True)
class ServerCommand:
    """Command line of a server, and how the server treats its workers.

    command: ``{port}``, ``{workers}`` and ``{pool}`` in it are filled in.
    replaces_killed_workers: otherwise the server ends as a whole when a worker is killed.
    signals_all_workers: at a stop, all at once; otherwise one ends after the other, and another one may begin a term.
    """

    name: str
    command: tuple[str, ...]
    replaces_killed_workers: bool = True
    signals_all_workers: bool = True


RUN_PY = ServerCommand(
    "run.py",
    (
        *(sys.executable, str(ROOT / "tests/support/serve.py")),
        *("--port", "{port}", "--workers", "{workers}", "--pool", "{pool}"),
    ),
)


class ServerProcess:
    """A process that serves on a port of the loopback interface, and all processes that it starts.

    log: file for the output.
    """

    def __init__(
        self, command: Sequence[str], *, port: int, log: Path, environment: Mapping[str, str], cwd: Path
    ) -> None:
        self.port = port
        self.log = log
        self._command = command
        self._environment = environment
        self._cwd = cwd
        self._client = self._new_client()
        self._seen: dict[int, psutil.Process] = {}
        self.parent: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start it without waiting."""
        with self.log.open("ab") as log:
            self.parent = subprocess.Popen(
                self._command,
                cwd=self._cwd,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that Ctrl-C reaches all of it, and nothing else
            )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the parent; returns its exit code once all processes are gone."""
        assert self.parent is not None
        self.processes()
        self.parent.send_signal(number)
        return self._wait_for_end()

    def interrupt(self) -> int:
        """Ctrl-C: SIGINT to the whole foreground process group, as a terminal sends it."""
        assert self.parent is not None
        self.processes()
        os.killpg(self.parent.pid, signal.SIGINT)
        return self._wait_for_end()

    def reap(self) -> None:
        """Kill every process that ever belonged to it."""
        if self.parent is not None:
            self.processes()
            for process in self._seen.values():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self.parent.kill()
            self.parent.wait()
            until(lambda: not self.remaining(), what="every process of the server is gone")
        self._client.close()

    def processes(self) -> list[psutil.Process]:
        """The parent and its children that are alive now."""
        assert self.parent is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.parent.pid)
            for process in [parent, *parent.children(recursive=True)]:
                if self._seen.get(process.pid) != process:  # it may be another one that got the pid of an earlier one
                    self._seen[process.pid] = process
        return self.remaining()

    def remaining(self) -> list[psutil.Process]:
        """The live processes among all that ever belonged to it."""
        return [process for process in self._seen.values() if _is_alive(process)]

    def get(self, path: str = "/leader") -> httpx2.Response | None:
        """Response of a worker; None if none could be reached, or if it died meanwhile."""
        try:
            return self._client.get(path)
        except httpx2.TransportError:
            return None

    def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        return self._client.request(method, path, **options)

    def set_timeout(self, seconds: float) -> None:
        """Limit the time of each request."""
        self._client.timeout = seconds

    def _new_client(self, **options: Any) -> httpx2.Client:
        # A server closes a connection that was idle for 5 s, perhaps at the moment of its next use.
        headers = {"Connection": "close", **options.pop("headers", {})}
        return httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=10, headers=headers, **options)

    def _wait_for_end(self) -> int:
        assert self.parent is not None
        code = self.parent.wait(60)
        until(lambda: not self.remaining(), what="every process of the server is gone")
        return code


class Pool(ServerProcess):
    """A server with several workers.

    directory: for the pool's own directory, the facts and the log. pool: another directory for it, or a URL.
    jobs: names of the jobs in ``tests.support.application`` that ``run.py`` serves.
    start_method: of the workers of ``run.py``: ``forkserver`` imports the libraries once, ``spawn`` in each worker, as
    in production.
    """

    def __init__(
        self,
        directory: Path,
        *,
        server: ServerCommand = RUN_PY,
        workers: int = 3,
        jobs: str = "tick",
        pool: Path | str | None = None,
        environment: Mapping[str, str] | None = None,
        start_method: str = "forkserver",
        cwd: Path = ROOT,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path: Path | str = pool or directory / "pool"
        self.workers = workers
        self.facts_path = directory / "facts"
        port = free_port()
        fields = {"port": port, "workers": workers, "pool": self.path}
        super().__init__(
            [word.format(**fields) for word in server.command],
            port=port,
            log=directory / "log",
            environment={
                **os.environ,
                "PYTHONUNBUFFERED": "1",
                "ELECTION_ADMIN_TOKEN": TOKEN,
                "PYTHONPATH": str(ROOT),
                "FACTS": str(self.facts_path),
                "JOBS": jobs,
                "ELECTION_TEST_START": start_method,
                **(environment or {}),
            },
            cwd=cwd,
        )

    def start(self) -> Pool:
        """Start it; return when there is a leader and all workers take part."""
        self.launch()
        self.settled()
        return self

    @classmethod
    def watching(cls, pool: Pool) -> Pool:
        """Another client of the same pool, for another thread."""
        other = copy.copy(pool)
        other._client = other._new_client()
        return other

    def leader(self, *, but: int | None = None) -> dict[str, Any]:
        """Return the document as soon as there is a leader whose work runs and whose pid is not ``but``."""

        def led() -> dict[str, Any] | None:
            answer = self.get()
            found = answer.json() if answer is not None and answer.status_code == 200 else None
            if found is None or found["leader"]["pid"] == but or found["last_takeover"]["takeover_ms"] is None:
                return None
            return dict(found)

        return until(led, what=f"a leader other than {but}; log: {self.log}", poll=POLL)

    def settled(self) -> dict[str, Any]:
        """Return the document as soon as there is a leader, and all workers are listed and alive."""

        def whole() -> dict[str, Any] | None:
            found = self.leader()
            alive = {process.pid for process in self.processes()}
            named = [worker["pid"] for worker in found["workers"]]
            return found if len(named) == self.workers and alive.issuperset(named) else None

        limit = max(60, SECONDS_PER_WORKER * self.workers)
        return until(whole, timeout=limit, what=f"{self.workers} workers; log: {self.log}", poll=POLL)

    def record(self) -> dict[str, Any]:
        """The leader record on disk."""
        return dict(json.loads((Path(self.path) / "leader.json").read_bytes()))

    def facts(self) -> Facts:
        return Facts.read(self.facts_path)

    def run_command(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``python -m election NAME --pool …``."""
        return run_command([name, "--pool", str(self.path), *arguments], self._environment)

    def verify(self) -> tuple[int, str]:
        """``python -m election verify``: its exit code and output."""
        done = self.run_command("verify")
        return done.returncode, done.stdout + done.stderr


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # gone between the two
        return False


@contextlib.contextmanager
def pools(directory: Path) -> Iterator[Callable[..., Pool]]:
    """Factory of pools, not started yet; started ones are reaped afterwards."""
    made: list[Pool] = []

    def make(**options: Any) -> Pool:
        made.append(Pool(directory / str(len(made)), **options))
        return made[-1]

    try:
        yield make
    finally:
        for pool in made:
            pool.reap()


@contextlib.contextmanager
def quiet_pools(directory: Path) -> Iterator[Callable[..., Pool]]:
    """Like ``pools``, and no log may hold a traceback by the end of the scope; not later, because a child whose
    parent is reaped while it starts logs one.
    """
    with pools(directory) as make:
        yield make
        for log in directory.glob("*/log"):
            text = log.read_text()
            assert "Traceback" not in text, text[-4000:]


class Worker(ServerProcess):
    """One worker on a port of its own; its client is authorized."""

    def __init__(self, pool: WorkerPool, modules: Path) -> None:
        port = free_port()
        super().__init__(
            [
                sys.executable,
                "-m",
                *f"uvicorn tests.support.application:app --port {port} --timeout-graceful-shutdown 2".split(),
            ],
            port=port,
            log=pool.log,
            environment={
                **os.environ,
                "PYTHONUNBUFFERED": "1",
                "ELECTION_ADMIN_TOKEN": TOKEN,
                "PYTHONPATH": f"{ROOT}{os.pathsep}{modules}",
                "PYTHONDONTWRITEBYTECODE": "1",
                "ELECTION_POOL": pool.url,
                "ELECTION_TEST_HEARTBEAT": "0.1",
                "ELECTION_TEST_SAFETY_POLL": str(SAFETY_POLL_S),
                "FACTS": str(pool.facts_path),
                "JOBS": "often,now and/then",
            },
            cwd=ROOT,
        )
        self._client = self._new_client(headers=AUTHORIZED)
        self.set_timeout(LIMIT)
        self.launch()
        assert self.parent is not None
        self.pid = self.parent.pid

    def document(self, path: str = "/leader") -> dict[str, Any]:
        """The JSON document at ``path``; empty while it cannot be reached. Raises if the process has ended."""
        if self.parent is not None and self.parent.poll() is not None:
            raise RuntimeError(f"worker {self.pid} has ended")
        answer = self.get(path)
        return {} if answer is None else dict(answer.json())

    def post(self, path: str) -> dict[str, Any]:
        """POST a request that must be accepted."""
        answer = self.request("POST", path)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def job(self, job_id: str) -> dict[str, Any]:
        """The job in its document; empty if there is none with that id."""
        return next((dict(job) for job in self.document()["jobs"] if job["id"] == job_id), {})

    def signal(self, number: signal.Signals) -> None:
        assert self.parent is not None
        self.parent.send_signal(number)

    def kill(self) -> None:
        """``kill -9``; returns when the process has ended."""
        assert self.parent is not None
        self.parent.kill()
        self.parent.wait(30)


class WorkerPool:
    """A pool of single workers, each on its own port; two make a leader and a follower.

    directory: for the pool, the log, the facts, and modules that a worker can import. url: of a pool that is no
    directory.
    """

    def __init__(self, directory: Path, url: str | None = None) -> None:
        self.path = directory / "pool"
        self.url = url or str(self.path)
        self.log = directory / "log"
        self.facts_path = directory / "facts"
        self.modules = directory / "modules"
        self.modules.mkdir()
        self._workers: list[Worker] = []
        self._alive: list[Worker] = []

    def start(self, count: int = 2, *, modules: Path | None = None) -> None:
        """Start workers; return when all take part and one leads. ``modules``: instead of the pool's own."""
        started = [Worker(self, modules or self.modules) for _ in range(count)]
        self._workers += started
        self._alive += started
        until(
            lambda: all(len(worker.document().get("workers", [])) == len(self._alive) for worker in self._alive),
            max(60, SECONDS_PER_WORKER * len(self._alive)),
            what=f"the workers are there; log: {self.log}",
            poll=POLL,
        )
        self.leader()

    @property
    def alive(self) -> list[Worker]:
        """Workers that were started and not killed."""
        return list(self._alive)

    def kill_leader(self) -> int:
        """``kill -9`` the leader; returns its pid."""
        leader = self.leader()
        leader.kill()
        self._alive.remove(leader)
        return leader.pid

    def leader(self, after: int = 0) -> Worker:
        """Return the leader of a term later than ``after`` as soon as its work runs."""
        return until(lambda: self._find("leader", after), what=f"a leader; log: {self.log}")[0]

    def follower(self) -> Worker:
        return until(lambda: self._find("follower"), what=f"a follower; log: {self.log}")[0]

    def facts(self, job: str) -> list[dict[str, Any]]:
        return Facts.read(self.facts_path).of("ran", job)

    def reap(self) -> None:
        for worker in self._workers:
            worker.reap()

    def _find(self, role: str, after: int = 0) -> list[Worker]:
        """Return the first worker in this role, of a term whose work runs; empty if there is none."""
        for worker in self._alive:
            seen = worker.document()
            if seen and seen["state"] == "led" and seen["answered_by"]["role"] == role:
                takeover = seen["last_takeover"]
                if takeover["term"] > after and takeover["takeover_ms"] is not None:
                    return [worker]
        return []
