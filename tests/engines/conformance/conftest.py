"""A pool of each engine; where an engine's server is absent, its tests are skipped with the reason.

``redis+postgres`` has its seat in Redis and its ledger in PostgreSQL. The promises of a ledger alone are the same code
there as on ``postgres``, and are tested once.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from election.schedule.commands import RegisterJob
from election.schedule.ledger import Ledger
from tests.engines.conformance.pool import SECONDS, Pool, PoolWithOwnLedger
from tests.schedule.making import NOW, make_term, process
from tests.support.postgres_server import RunningPostgres
from tests.support.processes import ForkServer
from tests.support.redis_server import RunningRedis
from tests.support.servers import new_name


def _file(_: pytest.FixtureRequest, path: Path) -> tuple[str, dict[str, Any]]:
    return str(path / "pool"), {}


def _postgres(request: pytest.FixtureRequest, _: Path) -> tuple[str, dict[str, Any]]:
    server: RunningPostgres = request.getfixturevalue("postgres_server")
    return server.url(pool=new_name()), {}


def _redis(request: pytest.FixtureRequest, _: Path) -> tuple[str, dict[str, Any]]:
    server: RunningRedis = request.getfixturevalue("redis_server")
    return f"{server.url}?pool={new_name()}&socket_timeout=30", {}  # the server is well; the machine may be busy


def _redis_and_postgres(request: pytest.FixtureRequest, path: Path) -> tuple[str, dict[str, Any]]:
    return _redis(request, path)[0], {"ledger": _postgres(request, path)[0]}


LEDGERS = ["file", "postgres", "redis", "your-own"]

PLACES: dict[str, Callable[[pytest.FixtureRequest, Path], tuple[str, dict[str, Any]]]] = {
    "file": _file,
    "postgres": _postgres,
    "redis": _redis,
    "redis+postgres": _redis_and_postgres,
    "your-own": _file,
}
"""URL of a new pool, and the options that belong to it."""


_PROMISE = re.compile(r"test_(p\d|pitfall)_")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize by engine, or by ledger where a test uses nothing else.

    In the ordinary run, the servers have the tests that are named after a promise or a pitfall. The halves of
    ``redis+postgres`` are tested separately, so that there only the promises of both together belong to it: numbers
    that grow (P2), and ticks that run once and are settled (P3, P4). ``your-own`` is the ledger of
    docs/engines/your-own.md, which one process can use.
    """
    if "pool" in metafunc.fixturenames:
        names = LEDGERS if "ledger" in metafunc.fixturenames else [name for name in PLACES if name != "your-own"]
        if "two_processes" in metafunc.function.__name__:
            names = [name for name in names if name != "your-own"]
        ordinary = {"file"}
        if _PROMISE.match(metafunc.function.__name__):
            ordinary |= {"postgres", "redis"}
        if metafunc.function.__name__.startswith(("test_p2_", "test_p3_", "test_p4_")):
            ordinary |= {"redis+postgres"}
        marked = [pytest.param(name, marks=() if name in ordinary else pytest.mark.extended) for name in names]
        metafunc.parametrize("pool", marked, indirect=True)


@pytest.fixture
def pool(request: pytest.FixtureRequest, tmp_path: Path, workers: ForkServer) -> Iterator[Pool]:
    """A new pool of each engine."""
    yield from _made(request, request.param, tmp_path, workers)


@pytest.fixture
def another_pool(request: pytest.FixtureRequest, pool: Pool, tmp_path: Path, workers: ForkServer) -> Iterator[Pool]:
    """Another pool of the same engine, as close to the first as possible."""
    (tmp_path / "another").mkdir()
    yield from _made(request, pool.name, tmp_path / "another", workers)


def _made(request: pytest.FixtureRequest, name: str, path: Path, workers: ForkServer) -> Iterator[Pool]:
    url, options = PLACES[name](request, path)
    kind = PoolWithOwnLedger if name == "your-own" else Pool
    pool = kind(name, url, path, workers, options, patient=True)
    pool.engine().check()
    yield pool
    pool.close()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def ledger(pool: Pool) -> AsyncIterator[Ledger]:
    """The ledger of a leader in term 1; ``job`` has a tick each second."""
    ledger = pool.engine().ledger
    await ledger.begin_term(make_term(1), process())
    await ledger.record(1, [RegisterJob("job", SECONDS.schedule, at=NOW, since=NOW)])
    yield ledger
    await ledger.close()
