"""Servers that a test may damage, and pools of step-by-step workers on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engines.conformance.pool import Pool
from tests.support.pool import Pool as Served
from tests.support.pool import quiet_pools
from tests.support.processes import ForkServer
from tests.support.redis_server import Server, SpareServers


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Factory of servers, not started yet; afterwards they are killed."""
    made: list[Server] = []

    def make(*options: str, **more: str) -> Server:
        made.append(Server(tmp_path / f"server-{len(made)}", *options, **more))
        return made[-1]

    yield make
    for server in made:
        server.kill()


@pytest.fixture(scope="session")
def spare_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpareServers]:
    spares = SpareServers(tmp_path_factory.mktemp("spare"))
    yield spares
    spares.close()


@pytest.fixture(scope="session")
def lasting_server(spare_servers: SpareServers) -> Iterator[Server]:
    server = spare_servers.take()
    yield server
    server.kill()


@pytest.fixture
def steady(lasting_server: Server) -> Iterator[Server]:
    """A server of this process for tests that flush it or change its settings: empty, with its initial settings."""
    lasting_server.ask("FLUSHALL")
    yield lasting_server
    lasting_server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "0")


@pytest.fixture
def server(spare_servers: SpareServers) -> Iterator[Server]:
    """A server to be killed: it keeps an append-only file, and has run for long enough to elect."""
    server = spare_servers.take()
    yield server
    server.kill()


@pytest.fixture
def new_pool(tmp_path: Path, workers: ForkServer) -> Iterator[Callable[[str], Pool]]:
    """Factory of pools at a URL."""
    made: list[Pool] = []

    def make(url: str) -> Pool:
        directory = tmp_path / f"pool-{len(made)}"
        directory.mkdir()
        made.append(Pool("redis", url, directory, workers))
        return made[-1]

    yield make
    for pool in made:
        pool.close()


@pytest.fixture
def pool(steady: Server, new_pool: Callable[[str], Pool]) -> Pool:
    return new_pool(steady.patient_url)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Factory of pools, not started yet; afterwards they are reaped, and their logs must hold no traceback."""
    with quiet_pools(tmp_path / "served") as make:
        yield make
