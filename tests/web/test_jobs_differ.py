"""Two applications on one pool: the workers whose jobs do not run say so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from election import Election
from election.schedule.plan import NOT_IN_THIS_CODE
from election.web.view import describe_difference
from tests.support.logs import logged
from tests.support.pool import WorkerPool
from tests.support.waiting import until


def test_pitfall_50_another_application_is_told(living: WorkerPool, caplog: pytest.LogCaptureFixture) -> None:
    """In ``problem`` and in the log of the worker whose jobs are not run; its leader has no problem."""
    election = Election(living.url, heartbeat=0.1, safety_poll=0.3)
    election.scheduled_job("interval", hours=1, id="mine")(print)
    app = FastAPI(lifespan=election.lifespan)
    app.include_router(election.router)
    with TestClient(app) as client:

        def problem() -> Any:
            return client.get("/leader").json()["problem"]

        until(problem, what="the difference is told")
        assert "(only here: 'mine'; only there: 'now and/then', 'often')" in problem()
        assert len(logged(caplog, "jobs_differ")) == 1
        assert living.leader().request("GET", "/leader").json()["problem"] is None


@pytest.mark.extended
def test_the_leader_itself_has_no_problem(tmp_path: Path) -> None:
    election = Election(tmp_path / "pool", heartbeat=0.1)
    election.scheduled_job("interval", seconds=0.2, id="same", coalesce=False)(print)
    app = FastAPI(lifespan=election.lifespan)
    app.include_router(election.router)
    with TestClient(app) as client:
        until(lambda: len(client.get("/leader/runs").json()["runs"]) > 15, what="more than two seconds have passed")
        assert client.get("/leader").json()["problem"] is None


@pytest.mark.parametrize(
    "known", [{"job": None}, {"job": "its trigger raises"}, {"job": None, "kept": NOT_IN_THIS_CODE}]
)
def test_what_is_no_difference(known: dict[str, str | None]) -> None:
    assert describe_difference(["job"], known, "the leader") is None
    assert describe_difference([], known, "the leader") is not None


def test_many_are_counted() -> None:
    told = describe_difference([f"job-{number}" for number in range(9)], {}, "the leader (pid 7 on web1)")
    assert told is not None
    assert "only here: 'job-0', 'job-1', 'job-2', 'job-3', 'job-4' and 4 more" in told
