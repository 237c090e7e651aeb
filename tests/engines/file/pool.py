"""Pools of real processes for the tests of the file engine: started by a nursery, signalled by pidfd, always reaped."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.facts import FactFile
from tests.support.judge import Fact, violations
from tests.support.waiting import LIMIT, until

ROOT = Path(__file__).parents[3]


class Nursery:
    """Forks workers, as ``module`` says. Whatever it started is gone when it is closed."""

    def __init__(self, module: str = "tests.engines.file.worker") -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, str(theirs.fileno())],
            cwd=ROOT,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._control.settimeout(60)

    def close(self) -> None:
        self._control.close()
        self._process.wait(10)

    def fork(self, options: dict[str, Any], channel: socket.socket) -> int:
        socket.send_fds(self._control, [json.dumps(options).encode()], [channel.fileno()])
        return int(self._control.recv(64))

    @contextlib.contextmanager
    def keeping_zombies(self) -> Iterator[None]:
        """Within it, workers that die are not reaped."""
        self._control.send(b'{"zombies": true}')
        self._control.recv(64)
        try:
            yield
        finally:
            self._control.send(b'{"zombies": false}')
            self._control.recv(64)


class Process:
    """A worker, seen from the test."""

    def __init__(self, nursery: Nursery, options: dict[str, Any], facts: FactFile) -> None:
        self._facts = facts
        self._channel, theirs = socket.socketpair()
        self.pid = nursery.fork(options, theirs)
        self._pidfd = os.pidfd_open(self.pid)
        theirs.close()
        self._channel.sendall(b"!")  # it has waited for that, so that nobody else can have its pid
        self._channel.settimeout(LIMIT)
        self._lines = self._channel.makefile("r")

    def __repr__(self) -> str:
        return f"<worker {self.pid}>"

    def send(self, name: int) -> None:
        signal.pidfd_send_signal(self._pidfd, name)

    def kill(self) -> None:
        """``kill -9``, and write down that no fact of it may follow."""
        if not self.gone():
            self._facts.write("killed", pid=self.pid)
            self.send(signal.SIGKILL)

    def stop(self) -> None:
        """``kill -STOP``; returns when it stands still."""
        self.send(signal.SIGSTOP)
        until(self.stands_still)

    def stands_still(self) -> bool:
        return _state(self.pid) == "T"

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    def gone(self) -> bool:
        """Whether it is dead to the last thread, reaped or not."""
        return bool(select.select([self._pidfd], [], [], 0)[0])

    def ask(self, deed: str, **arguments: Any) -> Any:
        """Let the worker do one of ``deeds``; returns what that returns."""
        self.tell(deed, **arguments)
        return self.answer()

    def tell(self, deed: str, **arguments: Any) -> None:
        self._channel.sendall(json.dumps([deed, arguments]).encode() + b"\n")

    def answer(self) -> Any:
        answer = json.loads(self._lines.readline())
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def reap(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.kill()
        until(self.gone)
        self._lines.close()
        self._channel.close()
        os.close(self._pidfd)


class Pool:
    """A pool directory, the workers in it, and the facts that they wrote."""

    def __init__(self, nursery: Nursery, directory: Path) -> None:
        self._nursery = nursery
        self.path = directory / "pool"
        self.lock = self.path / "leader.lock"
        self.record = self.path / "leader.json"
        self.number = self.path / "leader.term"
        self.fifo = self.path / "leader.alive"
        self.facts_path = directory / "facts"
        self.facts = FactFile(str(self.facts_path))
        self.workers: list[Process] = []

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
    ) -> Process:
        """One more worker.

        before: deeds that it does before it starts, as (name, arguments).
        path, cwd: what it calls the pool, and from where.
        preload: whether its engine is made before the fork.
        """
        options = {
            "pool": str(path or self.path),
            "facts": str(self.facts_path),
            "heartbeat": heartbeat,
            "safety_poll": safety_poll,
            "fence_after": fence_after,
            "before": before or [],
            "cwd": str(cwd),
            "preload": preload,
        }
        worker = Process(self._nursery, options, self.facts)
        self.workers.append(worker)
        return worker

    def led(self, **options: Any) -> Process:
        """Start the first worker, which leads on return."""
        worker = self.start(**options)
        self.next_leader()
        return worker

    def led_again(self, after: int) -> Process:
        """The same once more, when all former workers are gone."""
        worker = self.start()
        assert self.next_leader(after=after) is worker
        return worker

    def followers(self, count: int, **options: Any) -> list[Process]:
        """Start workers beside a leader; on return each has seen who leads, and waits for a vacancy."""
        workers = [self.start(**options) for _ in range(count)]
        for worker in workers:
            until(lambda worker=worker: worker.ask("armed_for"), what=f"{worker} follows")
        return workers

    def next_leader(self, after: int = 0, within: float = LIMIT) -> Process:
        """Wait for a term with a number beyond ``after``; returns who leads it."""
        begun = until(lambda: self.begun(after), timeout=within, what=f"a term after {after}; {self.told()}")
        return next(worker for worker in self.workers if worker.pid == begun[0].pid)

    def begun(self, after: int = 0) -> list[Fact]:
        """The terms that have begun, with a number beyond ``after``."""
        return [fact for fact in self.facts.read() if fact.event == "begin" and fact.term > after]

    def term(self) -> int:
        """The number of the last term that has begun."""
        return max((fact.term for fact in self.begun()), default=0)

    def told(self, text: str = "", what: str = "log") -> list[str]:
        """The lines that workers logged with ``text`` in them."""
        return [fact.text or fact.event for fact in self.facts.read() if fact.event == what and text in fact.text]

    def vacancy_after_kill(self, leader: Process) -> float:
        """``kill -9`` the leader; the seconds until the next term's work began."""
        term = self.term()
        leader.kill()
        killed_at = time.monotonic()
        self.next_leader(after=term)
        return self.begun(term)[0].at - killed_at

    def close(self) -> None:
        for worker in self.workers:
            worker.reap()
        facts = self.facts.read()
        self.facts.close()
        assert violations(facts) == []
        assert [fact.text for fact in facts if fact.event == "crash"] == []


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""
