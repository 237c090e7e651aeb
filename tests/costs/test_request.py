"""P7, P8: cost of one ``GET /leader`` on a follower."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from election.engines.file import presence
from election.web import view
from tests.costs.counting import Statements, system_calls
from tests.costs.worker import JOBS, build
from tests.support.waiting import until_async

pytestmark = [pytest.mark.anyio, pytest.mark.extended]


@pytest.fixture
async def client(
    pool: Path, leader: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx2.AsyncClient]:
    """Requests to a follower in this process, which does nothing by itself."""
    monkeypatch.setattr("election.fencing.warden.MAX_POLL_INTERVAL_S", 60.0)
    election = build(pool, heartbeat=30.0, safety_poll=60.0, stalled_after=90.0)
    app = FastAPI()
    app.include_router(election.router)
    async with (
        election,
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://pool") as client,
    ):
        yield client


async def _is_known(client: httpx2.AsyncClient) -> bool:
    """Whether the document has the ledger's part: on a busy machine it does not wait for that."""
    return all(job["next_run_time"] for job in (await client.get("/leader")).json()["jobs"])


async def _counted(client: httpx2.AsyncClient) -> tuple[Counter[str], httpx2.Response]:
    """System calls of a request, and its answer: the fewest of several, since the process has other things to do."""
    found = []
    for _ in range(20):
        with system_calls() as asked:
            answer = await client.get("/leader")
        found.append((asked, answer))
    return min(found, key=lambda each: each[0].total())


async def test_system_calls(client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """One read of the record, and three calls to examine the leader's process."""
    monkeypatch.setattr(view, "MAX_AGE_S", 60.0)
    monkeypatch.setattr(presence, "LIST_MAX_AGE_S", 60.0)
    await until_async(lambda: _is_known(client), what="the ledger has answered")
    asked, _ = await _counted(client)
    assert asked.total() <= 4, asked


async def test_system_calls_when_the_workers_are_looked_at_anew(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In addition a read of the directory, and of each worker's process; their entries are read once."""
    monkeypatch.setattr(view, "MAX_AGE_S", 60.0)
    monkeypatch.setattr(presence, "LIST_MAX_AGE_S", -1.0)
    await until_async(lambda: _is_known(client), what="the ledger has answered")
    asked, answer = await _counted(client)
    assert asked.total() <= 5 + 3 * len(answer.json()["workers"]), asked


async def test_statements(client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two queries to the ledger when its cache is not recent: jobs and open runs. None when it is."""
    monkeypatch.setattr(view, "TIMEOUT_S", 60.0)  # each answer waits for its own read
    monkeypatch.setattr(view, "MAX_AGE_S", -1.0)
    with Statements().counted() as statements:
        await until_async(lambda: _is_known(client), what="the ledger has answered")
        opened = len(statements.transactions)
        await client.get("/leader")
        assert [len(each) for each in statements.transactions[opened:]] == [4, 4]
        monkeypatch.setattr(view, "MAX_AGE_S", 60.0)
        await client.get("/leader")
    assert len(statements.transactions) == opened + 2


async def test_bytes(client: httpx2.AsyncClient) -> None:
    await until_async(lambda: _is_known(client), what="the ledger has answered")
    answer = await client.get("/leader")
    found = answer.json()
    assert len(found["jobs"]) == JOBS
    assert all(job["next_run_time"] for job in found["jobs"])
    names = len(found["pool"]) + len(found["leader"]["host"])
    assert len(answer.content) - names <= 2880
