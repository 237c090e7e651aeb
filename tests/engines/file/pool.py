"""Pools on the file engine, in separate processes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tests.support.judge import Fact
from tests.support.processes import ForkServer, ProcessPool, RemoteWorker
from tests.support.waiting import LIMIT, until


class Pool(ProcessPool):
    """A pool directory, and workers in it: electors on file seats."""

    def __init__(self, server: ForkServer, directory: Path) -> None:
        super().__init__(server, directory)
        self.path = directory / "pool"
        self.lock = self.path / "leader.lock"
        self.record = self.path / "leader.json"
        self.number = self.path / "leader.term"
        self.fifo = self.path / "leader.alive"

    def start(
        self,
        *,
        heartbeat: float = 0.05,
        safety_poll: float = 0.2,
        fence_after: float | None = None,
        before: list[tuple[str, dict[str, Any]]] | None = None,
        path: Path | str | None = None,
        cwd: Path | str = "/",
        preload: bool = False,
    ) -> RemoteWorker:
        """Add a worker.

        before: commands that it follows before it starts, as (name, arguments).
        path, cwd: its path of the pool, and its working directory.
        preload: whether its engine is made before the fork.
        """
        options = {
            "pool": str(path or self.path),
            "heartbeat": heartbeat,
            "safety_poll": safety_poll,
            "fence_after": fence_after,
            "before": before or [],
            "cwd": str(cwd),
            "preload": preload,
        }
        return self.fork("tests.engines.file.worker", options)

    def led(self, **options: Any) -> RemoteWorker:
        """Start the first worker, which leads on return."""
        worker = self.start(**options)
        self.next_leader()
        until(lambda: worker.ask("look")["takeover_ms"], what="it has written its record for the last time")
        return worker

    def led_again(self, after: int) -> RemoteWorker:
        """Start a first worker again when all former workers have ended."""
        worker = self.start()
        assert self.next_leader(after=after) is worker
        return worker

    def followers(self, count: int, **options: Any) -> list[RemoteWorker]:
        """Start workers beside a leader; on return each has observed it, and waits for a vacancy."""
        return list(self.armed_followers(count, **options))

    def armed_followers(self, count: int, **options: Any) -> dict[RemoteWorker, list[Any]]:
        """Start workers beside a leader; each with the first answer to ``armed_for`` that shows a leader."""
        workers = [self.start(**options) for _ in range(count)]
        return {
            worker: until(lambda worker=worker: worker.ask("armed_for"), what=f"{worker} follows") for worker in workers
        }

    def next_leader(self, after: int = 0, within: float = LIMIT) -> RemoteWorker:
        """Wait for a term with a number beyond ``after``; return its leader."""
        begun = until(lambda: self.begun(after), timeout=within, what=f"a term after {after}; {self.told()}")
        return next(worker for worker in self.workers if worker.pid == begun[0].pid)

    def begun(self, after: int = 0) -> list[Fact]:
        """The terms that have begun, with a number beyond ``after``."""
        return [fact for fact in self.facts.read() if fact.event == "begin" and fact.term > after]

    def term(self) -> int:
        """The number of the last term that has begun."""
        return max((fact.term for fact in self.begun()), default=0)

    def told(self, text: str = "", what: str = "log") -> list[str]:
        """Log lines of workers that contain ``text``."""
        return [fact.text or fact.event for fact in self.facts.read() if fact.event == what and text in fact.text]

    def vacancy_after_kill(self, leader: RemoteWorker) -> float:
        """``kill -9`` the leader; return the seconds until the work of the next term began."""
        term = self.term()
        leader.kill()
        killed_at = time.monotonic()
        self.next_leader(after=term)
        return self.begun(term)[0].at - killed_at
