"""Pools on PostgreSQL for the tests of this folder: on the shared server, or on one that a test may damage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engines.conformance.pool import Pool
from tests.support.pool import Pool as Served
from tests.support.pool import quiet_pools
from tests.support.postgres_server import PostgresServer, RunningPostgres
from tests.support.processes import ForkServer
from tests.support.servers import new_name


@pytest.fixture
def url(postgres_server: RunningPostgres) -> str:
    """URL of a new pool on the shared server."""
    return postgres_server.url(pool=new_name())


@pytest.fixture
def pool(url: str, tmp_path: Path, workers: ForkServer) -> Iterator[Pool]:
    """The new pool, and workers that follow commands."""
    pool = Pool("postgres", url, tmp_path, workers)
    yield pool
    pool.close()


@pytest.fixture
def own_pool(own_server: PostgresServer, tmp_path: Path, workers: ForkServer) -> Iterator[Pool]:
    """The same on a separate server."""
    pool = Pool("postgres", own_server.url(), tmp_path, workers)
    yield pool
    pool.close()


@pytest.fixture
def new_pool(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Factory of pools, not started yet; afterwards they are reaped, and their logs must hold no traceback."""
    with quiet_pools(tmp_path) as make:
        yield make
