"""The button that kills the leader: for a visitor of the demonstration on this machine, and for nobody else."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import httpx2
import psutil
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app import kill_leader
from tests.support.pool import Pool
from tests.support.waiting import until

from .test_first_steps import DEMONSTRATION


@pytest.fixture
def served(tmp_path: Path) -> Pool:
    return Pool(tmp_path / "served", server=DEMONSTRATION, workers=2)


def press(pool: Pool, pid: int | str, host: str = socket.gethostname(), **headers: str) -> httpx2.Response:
    origin = {"Origin": f"http://127.0.0.1:{pool.port}"}
    query = {"pid": pid, "host": host}
    return httpx2.post(f"http://127.0.0.1:{pool.port}/kill", params=query, headers=origin | headers, timeout=30)


def test_it_kills_the_leader_and_leads_to_the_page(served: Pool) -> None:
    try:
        before = served.start().leader()["leader"]
        page = httpx2.get(f"http://127.0.0.1:{served.port}/kill", timeout=30)
        assert (page.status_code, page.headers["x-frame-options"]) == (200, "DENY")
        for refused in (
            press(served, before["pid"], Origin="http://evil.example"),
            press(served, before["pid"], Origin="http://evil.example", Host="evil.example"),
            press(served, before["pid"], Origin="null"),
            press(served, before["pid"], Origin="http://["),
            press(served, before["pid"], Origin=f"http://127.0.0.1:{served.port + 1}"),
        ):
            assert refused.status_code == 403
        assert press(served, os.getpid()).status_code == 404
        assert press(served, os.getppid()).status_code == 404
        assert press(served, 2**22 + 1).status_code == 404
        assert press(served, before["pid"], host="another.example").status_code == 404
        assert served.parent is not None
        siblings = {child.pid for child in psutil.Process(served.parent.pid).children(recursive=True)}
        helpers = siblings - {worker["pid"] for worker in served.settled()["workers"]}
        assert helpers, "such as multiprocessing's own"
        assert {press(served, pid).status_code for pid in helpers} == {404}
        assert press(served, -1).status_code == 422
        assert served.leader()["leader"]["term"] == before["term"], "it leads on"
        answer = press(served, before["pid"])
        assert (answer.status_code, answer.headers["location"]) == (303, "leader/live")
        after = served.leader(but=before["pid"])
        assert after["last_takeover"]["reason"] == "died"
        until(lambda: len(served.settled()["workers"]) == 2, what="the dead worker has been replaced")
    finally:
        served.reap()


def test_another_machine_is_refused_whatever_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("nobody may be killed"))
    app = FastAPI()
    app.include_router(kill_leader.router)
    client = TestClient(app, base_url="http://127.0.0.1:8000", client=("10.0.0.5", 4711))
    query = {"pid": os.getpid(), "host": socket.gethostname()}
    answer = client.post("/kill", params=query, headers={"Origin": "http://127.0.0.1:8000"})
    assert answer.status_code == 403


def test_who_listens_to_others_has_no_such_button(tmp_path: Path) -> None:
    pool = Pool(tmp_path / "served", server=DEMONSTRATION, workers=1, environment={"ELECTION_HOST": "0.0.0.0"})
    try:
        pool.start()
        assert httpx2.get(f"http://127.0.0.1:{pool.port}/kill", timeout=30).status_code == 404
    finally:
        pool.reap()
