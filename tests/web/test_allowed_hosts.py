"""For which host names the routes answer over loopback: a page of another site reads nothing (DNS rebinding)."""

from __future__ import annotations

import http.client
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx2
import prometheus_client  # noqa: F401  it reads files when it is imported, and would on the event loop
import pytest
from fastapi import FastAPI

from election import ConfigurationError, Election
from election.testing import always_leader
from tests.support.pool import WorkerPool

pytestmark = pytest.mark.anyio

Ask = Callable[..., Awaitable[int]]

PATHS = ("/leader", "/leader/live", "/leader/live/data", "/leader/runs", "/leader/next", "/metrics")
UNKNOWN = ("rebound.example", "rebound.example:8000", "localhost.rebound.example", "127.0.0.1.rebound.example", "[::1")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def ask(tmp_path: Path) -> AsyncIterator[Ask]:
    """Asks a worker at one of its addresses, under a host name; the status of the answer."""

    async def ask(path: str, host: str, *, at: str = "127.0.0.1", hosts: tuple[str, ...] = ()) -> int:
        election = Election(tmp_path / "pool", allowed_hosts=hosts)
        app = FastAPI()
        for router in (election.router, election.metrics, election.health):
            app.include_router(router)
        with always_leader(election):
            async with (
                election,
                httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=f"http://{at}:8000") as client,
            ):
                answer = await client.get(path, headers={"Host": host})
        if answer.status_code == 421:
            assert "allowed_hosts" in answer.json()["detail"]
        return answer.status_code

    yield ask


@pytest.mark.parametrize("path", PATHS)
async def test_a_name_that_leads_here_is_refused(path: str, ask: Ask) -> None:
    assert await ask(path, "rebound.example") == 421


@pytest.mark.parametrize("at", ["127.0.0.1", "127.0.1.1", "[::1]"])
@pytest.mark.parametrize("host", UNKNOWN)
async def test_names_that_are_refused(host: str, at: str, ask: Ask) -> None:
    assert await ask("/leader", host, at=at) == 421


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8000", "app.localhost", "127.0.0.1:8000", "[::1]:8000", "10.0.0.7", socket.gethostname()],
)
async def test_names_that_can_only_be_this_machine(host: str, ask: Ask) -> None:
    assert await ask("/leader", host) == 200


async def test_names_that_were_allowed(ask: Ask) -> None:
    assert await ask("/leader", "jobs.example:443", hosts=("Jobs.example",)) == 200
    assert await ask("/leader", "other.example", hosts=("jobs.example",)) == 421
    assert await ask("/leader", "whatever.example", hosts=("*",)) == 200


async def test_what_comes_from_elsewhere_may_bear_any_name(ask: Ask) -> None:
    """The network decides who can reach an address that is not loopback, and a browser's visitor is not among them."""
    assert await ask("/leader", "jobs.example", at="10.0.0.7") == 200


async def test_probes_are_answered_under_any_name(ask: Ask) -> None:
    """They say nothing that anybody could use."""
    assert await ask("/healthz", "rebound.example") == 200
    assert await ask("/readyz", "rebound.example") == 200


@pytest.mark.parametrize(
    "allowed", ["jobs.example", ["https://jobs.example"], ["jobs.example:443"], ["jobs.example/"], [""]]
)
def test_what_is_no_list_of_names_fails_the_start(allowed: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="allowed_hosts"):
        Election(tmp_path / "pool", allowed_hosts=allowed)


def test_a_server_is_asked_under_another_name(pair: WorkerPool) -> None:
    """Uvicorn says at which of its addresses it was asked."""
    worker = pair.leader()
    connection = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=30)
    for host, status in (("rebound.example", 421), ("localhost", 200)):
        connection.request("GET", "/leader", headers={"Host": host})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
    connection.close()
