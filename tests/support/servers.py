"""Servers for a whole session of tests, since each takes its time: for a conftest to import."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .postgres_server import PostgresServer, server
from .redis_server import Server


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
