"""A pool of each engine; where an engine's server is absent, its tests are skipped and say so."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from election.schedule.facts import Enrol
from election.schedule.ledger import Ledger
from tests.engines.conformance.pool import SECONDS, Pool
from tests.engines.file.pool import Nursery
from tests.schedule.making import NOW, make_term, process
from tests.support.postgres_server import PostgresServer
from tests.support.redis_server import Server


def _file(_: pytest.FixtureRequest, path: Path) -> str:
    return str(path / "pool")


def _postgres(request: pytest.FixtureRequest, _: Path) -> str:
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.url(pool=f"p{next(_numbers)}")


def _redis(request: pytest.FixtureRequest, _: Path) -> str:
    server: Server = request.getfixturevalue("redis_server")
    return f"{server.url}?pool=conformance-{next(_numbers)}"


_numbers = itertools.count()

URLS: dict[str, Callable[[pytest.FixtureRequest, Path], str]] = {"file": _file, "postgres": _postgres, "redis": _redis}
"""By engine: where a new pool is."""


@pytest.fixture(params=list(URLS))
def pool(request: pytest.FixtureRequest, tmp_path: Path, hands: Nursery) -> Iterator[Pool]:
    """A new pool of each engine."""
    pool = Pool(request.param, URLS[request.param](request, tmp_path), tmp_path, hands)
    pool.engine().check()
    yield pool
    pool.close()


@pytest.fixture
def another_url(request: pytest.FixtureRequest, pool: Pool, tmp_path: Path) -> str:
    """Where there is another pool, of the same engine and as near as may be."""
    (tmp_path / "another").mkdir()
    return URLS[pool.name](request, tmp_path / "another")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def ledger(pool: Pool) -> AsyncIterator[Ledger]:
    """The leader's: one in which term 1 has begun and ``job`` has a tick each second."""
    ledger = pool.engine().ledger
    await ledger.begin_term(make_term(1), process())
    await ledger.record(1, [Enrol("job", SECONDS.schedule, at=NOW, since=NOW)])
    yield ledger
    await ledger.close()
