"""A pool of workers, each on a port of its own, and what one may ask of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2

from tests.support.facts import Facts
from tests.support.ports import free_port
from tests.support.waiting import LIMIT, until

ROOT = Path(__file__).parents[2]

TOKEN = "open sesame, if you please"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


class Worker:
    """One process of the pool."""

    def __init__(self, pool: Pair, modules: Path) -> None:
        port = free_port()
        environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{modules}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "ELECTION_ADMIN_TOKEN": TOKEN,
            "FACTS": str(pool.facts_path),
        }
        with pool.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.web.worker", pool.url, str(port)],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.pid = self._process.pid
        headers = {**AUTHORIZED, "Connection": "close"}  # a server closes what was idle for 5 s, perhaps as it is used
        self._client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=LIMIT, headers=headers)

    def ask(self, path: str = "/leader") -> dict[str, Any]:
        """The document at ``path``; empty while it cannot be reached. Fails if the process has ended."""
        if self._process.poll() is not None:
            raise RuntimeError(f"worker {self.pid} has ended")  # nothing that could still come about
        with contextlib.suppress(httpx2.TransportError):
            return dict(self._client.get(path).json())
        return {}

    def send(self, method: str, path: str, **arguments: Any) -> httpx2.Response:
        return self._client.request(method, path, **arguments)

    def tell(self, path: str) -> dict[str, Any]:
        """POST what must be accepted."""
        answer = self._client.post(path)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def job(self, job_id: str) -> dict[str, Any]:
        """What it says of a job; empty if it knows none of that name."""
        return next((dict(job) for job in self.ask()["jobs"] if job["id"] == job_id), {})

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """``kill -9``; returns when it is gone."""
        self._process.kill()
        self._process.wait(30)

    def reap(self) -> None:
        self._process.kill()
        self._process.wait()
        self._client.close()


class Pair:
    """A pool; two workers make a leader and a follower.

    directory: for the pool, the log, the facts, and modules that a worker can import. url: of the pool, if it is none.
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
        """Start workers; returns when all are there and one leads. ``modules``: instead of the pool's own."""
        started = [Worker(self, modules or self.modules) for _ in range(count)]
        self._workers += started
        self._alive += started
        until(
            lambda: all(len(worker.ask().get("workers", [])) == len(self._alive) for worker in self._alive),
            max(60, 15 * len(self._alive)),  # each takes seconds of a busy core for its imports
            what=f"the workers are there; log: {self.log}",
        )
        self.leader()

    @property
    def alive(self) -> list[Worker]:
        """Those that were started and not killed."""
        return list(self._alive)

    def kill_leader(self) -> int:
        """``kill -9`` the leader; returns its pid."""
        leader = self.leader()
        leader.kill()
        self._alive.remove(leader)
        return leader.pid

    def leader(self, after: int = 0) -> Worker:
        """Who leads a term later than ``after``, as soon as somebody does whose work runs."""
        return until(lambda: self._find("leader", after), what=f"a leader; log: {self.log}")[0]

    def follower(self) -> Worker:
        return until(lambda: self._find("follower"), what=f"a follower; log: {self.log}")[0]

    def facts(self, job: str) -> list[dict[str, Any]]:
        return Facts.read(self.facts_path).of("ran", job)

    def reap(self) -> None:
        for worker in self._workers:
            worker.reap()

    def _find(self, role: str, after: int = 0) -> list[Worker]:
        """The first worker in this role, of a term whose work runs; empty if there is none."""
        for worker in self._alive:
            seen = worker.ask()
            if seen and seen["state"] == "led" and seen["answered_by"]["role"] == role:
                takeover = seen["last_takeover"]
                if takeover["term"] > after and takeover["takeover_ms"] is not None:
                    return [worker]
        return []
