"""One server of each kind for a whole run of pytest, shared by all processes that run its tests.

Imported by ``tests/conftest.py`` alone: each conftest that imports a fixture has its own instance of it.

The first test that needs a server starts a keeper (``tests.support.keeper``), the server's parent. Each process that
uses the server holds a shared lock on a file; the kernel frees it when that process ends, however it ends, and then the
keeper ends the server. Each process has a database in PostgreSQL, and pools with separate names in Redis.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import pytest

from .postgres_server import PostgresServer, RunningPostgres, needs_programs, server
from .redis_server import RunningRedis, needs_valkey
from .waiting import until

ROOT = Path(__file__).parents[2]

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
"""Name of this process among those that run tests."""

_names = itertools.count()


def new_name() -> str:
    """A name for a pool that is unique in the run."""
    return f"{WORKER}_{next(_names)}"


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPostgres]:
    """The PostgreSQL server of the run, in a database of this process; each test has its own schema there."""
    needs_programs()
    with shared("postgres", _place(tmp_path_factory)) as found:
        running = RunningPostgres(found["port"], template=Path(found["template"]))
        running.execute(f"CREATE DATABASE {WORKER}")
        running.database = WORKER
        yield running


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRedis]:
    """The Valkey server of the run, which has run for long enough to elect; each test has its own pool there."""
    needs_valkey()
    with shared("redis", _place(tmp_path_factory)) as found:
        yield RunningRedis(found["port"])


@pytest.fixture
def own_server(new_postgres: Callable[..., PostgresServer]) -> PostgresServer:
    """A PostgreSQL server for one test, which may damage it."""
    return new_postgres()


@pytest.fixture
def new_postgres(postgres_server: RunningPostgres) -> Iterator[Callable[..., PostgresServer]]:
    """Factory of PostgreSQL servers for one test."""
    with contextlib.ExitStack() as scope:
        yield lambda **options: scope.enter_context(server(template=postgres_server.template, **options))


def _place(factory: pytest.TempPathFactory) -> Path:
    """Directory of the run; under pytest-xdist each process has a part of it."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@contextlib.contextmanager
def shared(kind: str, place: Path) -> Iterator[dict[str, Any]]:
    """The server of that kind for all processes that name the same directory: started if none runs, kept for the
    scope.
    """
    directory = place / f"shared-{kind}"
    directory.mkdir(exist_ok=True)
    with (directory / "users").open("a+b") as users:
        with filelock.FileLock(directory / "starting"):
            fcntl.lockf(users, fcntl.LOCK_SH)  # a record lock: child processes do not inherit it
            ready = directory / "ready"
            if not ready.exists():
                _start_keeper(kind, directory, ready)
            found = json.loads(ready.read_text())
        yield found


def _start_keeper(kind: str, directory: Path, ready: Path) -> None:
    log_path = directory / "log"
    with log_path.open("ab") as log:
        command = [sys.executable, "-m", "tests.support.keeper", kind, str(directory)]
        keeper = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)

    def is_ready() -> bool:
        if keeper.poll() is not None:
            raise RuntimeError(f"no server could be started: {log_path.read_text()[-2000:]}")
        return ready.exists()

    until(is_ready, 90, what=lambda: f"the server is ready: {log_path.read_text()[-2000:]}")
    keeper.returncode = 0  # it outlives this process, on purpose
