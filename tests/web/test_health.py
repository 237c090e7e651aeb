"""``GET`` and ``HEAD`` of ``/healthz`` and ``/readyz``, of one worker."""

from __future__ import annotations

import fcntl
import os
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from election import Election
from election.engines.file.file_thread import STALLED_AFTER_S
from election.testing import always_leader
from tests.support.lateness import lateness
from tests.support.pool import Worker, WorkerPool
from tests.support.replacing import replace_by_directory
from tests.support.waiting import until


@pytest.fixture
def election(tmp_path: Path) -> Election:
    return Election(tmp_path / "pool", heartbeat=0.05, safety_poll=0.05)


@pytest.fixture
def app(election: Election) -> FastAPI:
    app = FastAPI(lifespan=election.lifespan)
    app.include_router(election.health)
    app.include_router(election.router)
    return app


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        until(lambda: client.get("/leader").status_code == 200)
        yield client


def why_not(client: TestClient) -> str:
    """Why it is not ready; empty if it is."""
    assert client.get("/healthz").json() == {"status": "alive"}
    answer = client.get("/readyz")
    if answer.status_code == 200:
        assert answer.json() == {"status": "ready"}
        return ""
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    return str(answer.json()["detail"])


def test_a_worker_that_leads_is_ready(client: TestClient) -> None:
    assert why_not(client) == ""


def test_each_worker_of_a_pool_is_ready_and_stays_so_in_a_takeover(fresh: WorkerPool) -> None:
    """A worker that says that its disk does not answer may be right: on a busy machine it is asked again."""
    with lateness(fresh.path.parent) as late:
        fresh.start(3)
        fresh.kill_leader()
        for _ in range(2):  # as the seat changes hands, and afterwards
            for worker in fresh.alive:
                told = worker.request("GET", "/readyz").json()
                if "has not answered for" in told.get("detail", "") and 3 * late() >= STALLED_AFTER_S:
                    told = until(lambda worker=worker: ready(worker), what="its disk answers")
                assert told == {"status": "ready"}
            fresh.leader(after=1)


def ready(worker: Worker) -> dict[str, Any] | None:
    """Its answer if it is ready, or if something else than its disk is wrong."""
    told = dict(worker.request("GET", "/readyz").json())
    return None if "has not answered for" in told.get("detail", "") else told


def test_in_memory_too(election: Election, app: FastAPI) -> None:
    with always_leader(election), TestClient(app) as client:
        until(lambda: why_not(client) == "")


def test_an_election_that_was_not_started_is_not_ready(app: FastAPI) -> None:
    assert "has not been started" in why_not(TestClient(app))


def test_a_record_that_cannot_be_read(client: TestClient, tmp_path: Path) -> None:
    """A directory is refused to root as well."""
    replace_by_directory(tmp_path / "pool/leader.json")
    until(lambda: "leader.json" in why_not(client) or "record" in why_not(client))


def test_a_seat_that_cannot_be_taken(election: Election, app: FastAPI, tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir(mode=0o700)
    lock = os.open(tmp_path / "pool/leader.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with TestClient(app) as client:
            until(lambda: "nobody leads, but" in why_not(client))
            fcntl.flock(lock, fcntl.LOCK_UN)
            until(lambda: why_not(client) == "")
    finally:
        os.close(lock)


def test_a_leader_that_cannot_write_its_ledger_and_its_follower(fresh: WorkerPool) -> None:
    """Only the one that is in trouble is not ready: the other serves as well as ever."""
    fresh.start(2)
    leader, follower = fresh.leader(), fresh.follower()
    connection = sqlite3.connect(fresh.path / "ledger.db")
    connection.execute("ALTER TABLE runs RENAME TO elsewhere")
    try:
        until(lambda: leader.request("GET", "/readyz").status_code == 503, what="the leader is not ready")
        assert "no such table" in leader.request("GET", "/readyz").json()["detail"]
        until(lambda: follower.document()["problem"], what="the pool knows of it")
        assert follower.request("GET", "/readyz").status_code == 200
    finally:
        connection.execute("ALTER TABLE elsewhere RENAME TO runs")
        connection.close()
    until(lambda: leader.request("GET", "/readyz").status_code == 200, what="it has recovered by itself")


def test_head_has_the_status_and_the_headers_of_get(client: TestClient) -> None:
    for path in ("/healthz", "/readyz"):
        get, head = client.get(path), client.head(path)
        assert (head.status_code, head.headers) == (200, get.headers)


def test_head_of_a_worker_that_is_not_ready(app: FastAPI) -> None:
    client = TestClient(app)
    get, head = client.get("/readyz"), client.head("/readyz")
    assert (head.status_code, head.headers) == (503, get.headers)
    assert head.headers["retry-after"] == "1"


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_head_has_no_body(pair: WorkerPool, path: str) -> None:
    """Read from the socket to its end: HTTP clients do not expect a body, and would not see one."""
    with socket.create_connection(("127.0.0.1", pair.leader().port), timeout=30) as connection:
        connection.sendall(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        with connection.makefile("rb") as stream:
            head, _, body = stream.read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"content-length: " in head
    assert body == b""


def test_the_description_of_the_api_has_get_alone(app: FastAPI) -> None:
    assert {path: [*app.openapi()["paths"][path]] for path in ("/healthz", "/readyz")} == {
        "/healthz": ["get"],
        "/readyz": ["get"],
    }


def test_an_elector_that_has_ended(election: Election, app: FastAPI) -> None:
    with TestClient(app) as client:
        until(lambda: client.get("/leader").status_code == 200)
        assert election._member is not None
        election._member.elector.stop()
        until(lambda: "does not run any more in this worker" in why_not(client))
        assert client.get("/leader").json()["problem"] == why_not(client), "both name the reason in the same words"
