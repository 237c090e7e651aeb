"""``GET /leader`` as one worker answers it, and what an ``Election`` is before it takes part."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from election import Election
from election.core.process import current_process
from election.core.seat import Observation
from election.core.term import LeaderRecord, Reason, Takeover
from election.web import models
from tests.support.logs import logged
from tests.support.waiting import until, until_async

HEARTBEAT = 0.05


async def report() -> None:
    """A job."""


def application(pool: Path) -> tuple[FastAPI, Election]:
    election = Election(pool, heartbeat=HEARTBEAT)
    election.scheduled_job("cron", second="*/10", id="report")(report)
    app = FastAPI(lifespan=election.lifespan)
    app.include_router(election.router)
    return app, election


def test_the_document_is_the_agreed_one(tmp_path: Path) -> None:
    app, election = application(tmp_path / "pool")
    before = datetime.now(UTC)
    with TestClient(app) as client:
        until(lambda: client.get("/leader").status_code == 200)
        until(lambda: client.get("/leader").json()["last_takeover"]["takeover_ms"] is not None)

        def idle() -> httpx2.Response | None:
            answer = client.get("/leader")
            (job,) = answer.json()["jobs"]
            return answer if job["next_run_time"] and job["running"] == 0 else None

        answer = until(idle, what="the job is planned, and does not run now")
        found = answer.json()

        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        assert "retry-after" not in answer.headers
        elected_at = found["leader"]["elected_at"]
        started_at = found["workers"][0]["started_at"]
        next_run_time = found["jobs"][0]["next_run_time"]
        assert found["jobs"][0]["timezone"], "that of the machine"
        assert found == {
            "pool": str(tmp_path / "pool"),
            "engine": "file",
            "state": "led",
            "leader": {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "term": 1,
                "elected_at": elected_at,
                "heartbeat_age_s": found["leader"]["heartbeat_age_s"],
                "responsive": True,
                "queued": 0,
            },
            "answered_by": {"pid": os.getpid(), "host": socket.gethostname(), "role": "leader"},
            "workers": [
                {
                    "pid": os.getpid(),
                    "host": socket.gethostname(),
                    "role": "leader",
                    "started_at": started_at,
                    "candidate": True,
                }
            ],
            "last_takeover": {
                "term": 1,
                "from_pid": None,
                "to_pid": os.getpid(),
                "reason": "started",
                "takeover_ms": found["last_takeover"]["takeover_ms"],
                "vacant_s": None,
                "at": elected_at,
            },
            "jobs": [
                {
                    "id": "report",
                    "name": "report",
                    "description": "A job.",
                    "tags": [],
                    "trigger": "cron[second='*/10']",
                    "timezone": found["jobs"][0]["timezone"],
                    "next_run_time": next_run_time,
                    "paused": False,
                    "broken": None,
                    "running": 0,
                    "running_since": None,
                }
            ],
            "jobs_total": 1,
            "problem": None,
        }
        assert 0 <= found["leader"]["heartbeat_age_s"] < 3
        assert found["last_takeover"]["takeover_ms"] > 0
        assert before <= _utc(started_at) <= _utc(elected_at) <= datetime.now(UTC)
        assert _utc(next_run_time).second % 10 == 0
        assert election.is_leader
        assert election.term == 1
    assert not election.is_leader
    assert election.term is None


def test_without_a_leader_it_is_the_same_document_with_503_and_retry_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while somebody settles in: the lock is held, and no record says by whom."""
    monkeypatch.setattr("election.engines.file.backend.MIN_REFUSAL_S", 60.0)  # until then nobody takes it for an orphan
    (tmp_path / "pool").mkdir(mode=0o700)
    held = os.open(tmp_path / "pool" / "leader.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(held, fcntl.LOCK_EX)
    app, election = application(tmp_path / "pool")
    try:
        with TestClient(app) as client:
            answer = client.get("/leader")
            found = answer.json()
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert list(found) == list(models.LeaderDocument.model_fields)
            assert (found["state"], found["leader"], found["last_takeover"]) == ("electing", None, None)
            assert (found["answered_by"]["role"], found["problem"]) == ("follower", None)
            assert [worker["role"] for worker in found["workers"]] == ["follower"]
            assert not election.is_leader
            fcntl.flock(held, fcntl.LOCK_UN)
            until(lambda: client.get("/leader").status_code == 200)
    finally:
        os.close(held)


def test_the_election_of_a_mounted_application_says_that_it_never_started(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """docs/pitfalls.md#35: the lifespans of mounted applications do not run."""
    mounted, election = application(tmp_path / "pool")
    outer = FastAPI()
    outer.mount("/inner", mounted)
    with TestClient(outer) as client, caplog.at_level(logging.WARNING, "election"):
        for _ in range(3):
            answer = client.get("/inner/leader")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    found = answer.json()
    assert list(found) == list(models.LeaderDocument.model_fields)
    assert (found["state"], found["leader"], found["workers"]) == ("electing", None, [])
    assert found["answered_by"] == {"pid": os.getpid(), "host": socket.gethostname(), "role": "follower"}
    assert "its lifespan did not run (the lifespans of mounted sub-applications do not)" in found["problem"]
    (line,) = logged(caplog, "not_started")
    assert caplog.records == [line]
    assert found["problem"] in line.getMessage()
    assert not election.is_leader
    assert not (tmp_path / "pool").exists()


def test_openapi_tells_all_answers(tmp_path: Path) -> None:
    app, _ = application(tmp_path / "pool")
    responses = app.openapi()["paths"]["/leader"]["get"]["responses"]
    schemas = {code: told["content"]["application/json"]["schema"] for code, told in responses.items()}
    document = {"$ref": "#/components/schemas/LeaderDocument"}
    assert schemas == {"200": document, "503": document, "421": {"$ref": "#/components/schemas/Problem"}}


def test_constructing_an_election_does_no_io(tmp_path: Path) -> None:
    """docs/pitfalls.md#17: nothing is held that a fork could copy, no loop is needed, nothing appears on the disk."""
    application(tmp_path / "warm")  # imports, and the machine's time zone, are looked up once in a process
    before = _held()
    app, election = application(tmp_path / "pool")
    assert not election.is_leader
    assert election.term is None
    assert election.unfinished_jobs() == []
    app.openapi()
    after = _held()
    assert after[0] == before[0]
    assert {*after[1]} <= {*before[1]}, "those of an earlier test may have ended"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.anyio
async def test_is_leader_is_no_memory(tmp_path: Path) -> None:
    """docs/pitfalls.md#19, P8: with the lock's descriptor closed behind its back, a worker does not lead, and knows
    it."""
    _, election = application(tmp_path / "pool")
    async with election:
        await until_async(lambda: election.is_leader)
        (descriptor,) = [
            number for number, target in _descriptors().items() if target == str(tmp_path / "pool" / "leader.lock")
        ]
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, descriptor)  # and its number is another file's by now, which nobody may close
        os.close(nothing)
        assert not election.is_leader
        assert election.term is None
        await until_async(lambda: election.term == 2)  # after a heartbeat it has noticed, and was elected again
        assert _descriptors()[descriptor] == os.devnull
    assert not election.is_leader


NOW = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("led", "age", "responsive"),
    [(True, 0.0, True), (True, 2.99, True), (True, 3.0, False), (True, 60.0, False), (False, 0.0, None)],
)
def test_a_leader_is_responsive_while_its_heartbeat_is_seen_to_move(
    led: bool, age: float, responsive: bool | None
) -> None:
    process = current_process()
    record = LeaderRecord(7, process, "1:2", NOW, Takeover(7, 4241, process.pid, Reason.DIED, NOW, 4.1))
    found = models.leader(Observation(record, led, age), stalled_after=3.0)
    assert (found and found.responsive) == responsive
    assert models.leader(Observation(None, led, age), stalled_after=3.0) is None


def _utc(told: str) -> datetime:
    when = datetime.fromisoformat(told)
    assert told.endswith("Z") or when.utcoffset() is not None
    return when


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the one that listed them
            continue
    return found


def _held() -> tuple[dict[int, str], list[Any]]:
    return _descriptors(), threading.enumerate()
