"""Servers for the tests of the engines: one for a whole session of tests, since each takes a second to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.postgres_server import PostgresServer, server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server that all tests share; each has a pool, and so a schema, of its own."""
    with server() as made:
        yield made
