"""Servers and a nursery for the tests of the engines: one for a whole session of tests, since each takes its time."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.engines.cable", "tests.engines.conformance.pool", "tests.engines.file.pool")

from tests.engines.file.pool import Nursery  # noqa: E402
from tests.support.hosts import Hosts, two_hosts  # noqa: E402
from tests.support.postgres_server import PostgresServer, server  # noqa: E402
from tests.support.redis_server import Server  # noqa: E402


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server that all tests share; each has a pool, and so a schema, of its own."""
    with server() as made:
        yield made


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Redis that has run for long enough to elect, and that all tests share; each has a pool of its own."""
    server = Server(tmp_path_factory.mktemp("redis")).start().grown_up()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def hands() -> Iterator[Nursery]:
    if sys.platform != "linux":
        pytest.skip("the workers are signalled by pidfd, and looked at in /proc")
    nursery = Nursery("tests.engines.conformance.worker")
    yield nursery
    nursery.close()


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with two_hosts() as hosts:
        yield hosts


@pytest.fixture
def as_root() -> None:
    """For tests that need other users' files, or mounts."""
    if os.geteuid() != 0:
        pytest.skip("only root can make files that belong to others")
