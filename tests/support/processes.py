"""Workers in separate processes, without a web server: quick to fork, signalled by pidfd, always reaped."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from election.core.process import ProcessIdentity, _start_time, current_process
from tests.support.facts import FactFile
from tests.support.judge import violations
from tests.support.waiting import LIMIT, until

ROOT = Path(__file__).parents[2]


def identity_of(pid: int) -> ProcessIdentity:
    """Identity of a process that runs on this machine."""
    start_time = _start_time(pid)
    assert start_time is not None, f"pid {pid} does not run"
    return replace(current_process(), pid=pid, start_time=start_time)


class ForkServer:
    """Client of ``tests.support.fork_server``, which forks workers of any kind; all of them end with it."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.fork_server", str(theirs.fileno())],
            cwd=ROOT,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._control.settimeout(60)

    def close(self) -> None:
        self._control.close()
        self._process.wait(10)

    def fork(self, kind: str, options: dict[str, Any], channel: socket.socket) -> int:
        """Fork a worker that follows the commands on ``channel``; returns its pid. kind: a module with ``main``."""
        request = json.dumps({"kind": kind, "options": options}).encode()
        socket.send_fds(self._control, [request], [channel.fileno()])
        return int(self._control.recv(64))

    @contextlib.contextmanager
    def keeping_zombies(self) -> Iterator[None]:
        """Scope in which dead workers are not reaped."""
        self._control.send(b'{"zombies": true}')
        self._control.recv(64)
        try:
            yield
        finally:
            self._control.send(b'{"zombies": false}')
            self._control.recv(64)


@contextlib.contextmanager
def fork_server() -> Iterator[ForkServer]:
    """A fork server as a scope; skips the test where there are no pidfds."""
    if sys.platform != "linux":
        pytest.skip("the workers are signalled by pidfd, and looked at in /proc")
    server = ForkServer()
    try:
        yield server
    finally:
        server.close()


class RemoteWorker:
    """Handle of a worker; its commands are those of the module that it was forked for."""

    def __init__(self, server: ForkServer, kind: str, options: dict[str, Any], facts: FactFile) -> None:
        self._facts = facts
        self._channel, theirs = socket.socketpair()
        self.pid = server.fork(kind, options, theirs)
        self._pidfd = os.pidfd_open(self.pid)
        theirs.close()
        self._channel.sendall(b"!")  # the fork server has reaped it, so no other process can have its pid
        self._channel.settimeout(LIMIT)
        self._lines = self._channel.makefile("r")

    def __repr__(self) -> str:
        return f"<worker {self.pid}>"

    def send(self, number: int) -> None:
        """Send a signal."""
        signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        """``kill -9``, and record that no fact of it may follow; returns when it is dead."""
        if not self.gone():
            self._facts.write("killed", pid=self.pid)
            self.send(signal.SIGKILL)
            until(self.gone, what=f"{self} is dead")

    def stop(self) -> None:
        """``kill -STOP``; returns when the process stands still."""
        self.send(signal.SIGSTOP)
        until(self.stands_still)

    def stands_still(self) -> bool:
        return _state(self.pid) == "T"

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    def gone(self) -> bool:
        """Whether its last thread is dead, reaped or not."""
        return bool(select.select([self._pidfd], [], [], 0)[0])

    def ask(self, command: str, **arguments: Any) -> Any:
        """Run a command in the worker; return its result."""
        self.tell(command, **arguments)
        return self.answer()

    def tell(self, command: str, **arguments: Any) -> None:
        """Send a command without waiting for its result."""
        self._channel.sendall(json.dumps([command, arguments]).encode() + b"\n")

    def answer(self) -> Any:
        """Result of the oldest command that is not answered yet."""
        line = self._lines.readline()
        assert line, f"{self} has died"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def reap(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.kill()
        until(self.gone)
        self._lines.close()
        self._channel.close()
        os.close(self._pidfd)


class ProcessPool:
    """Workers of one pool and their facts, which are judged at the end."""

    def __init__(self, server: ForkServer, directory: Path) -> None:
        self._server = server
        self.facts_path = directory / "facts"
        self.facts = FactFile(self.facts_path)
        self.workers: list[RemoteWorker] = []

    def fork(self, kind: str, options: dict[str, Any]) -> RemoteWorker:
        """Add a worker. kind: a module with ``main(options, channel)``."""
        worker = RemoteWorker(self._server, kind, {**options, "facts": str(self.facts_path)}, self.facts)
        self.workers.append(worker)
        return worker

    def close(self) -> None:
        """Reap all workers. Fails if their facts break a promise, or if a worker has crashed."""
        for worker in self.workers:
            worker.reap()
        facts = self.facts.read()
        self.facts.close()
        assert [fact.text for fact in facts if fact.event == "crash"] == []  # first: it may explain the rest
        killed = {fact.pid for fact in facts if fact.event == "killed"}
        exits = {fact.pid: fact.text for fact in facts if fact.event == "exited" and fact.pid not in killed}
        assert violations(facts) == [], f"by themselves, workers ended with {exits}"


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""
