"""A pool with many jobs: what is shown is bounded, says how many there are, and all can be reached."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from election import Election
from tests.support.waiting import until

ADDED = 130

SHOWN = [*(f"code-{number:03}" for number in range(100)), *(f"reminder-{number:03}" for number in range(30, 130))]
"""Ids in the document: a hundred of the code, and the hundred of the others that are due soonest."""


async def remind(number: int = 0) -> None:
    """A reminder."""


def new_job(number: int, soon: datetime) -> dict[str, Any]:
    """Of those that are added, the last is due first, a minute after ``soon``."""
    due = soon + timedelta(minutes=ADDED - number)
    tags = ["odd"] if number % 2 else []
    return {"func": remind, "trigger": "date", "run_date": due, "id": f"reminder-{number:03}", "tags": tags}


@pytest.fixture(scope="module")
def soon() -> datetime:
    """Later than every test here."""
    return datetime.now(UTC) + timedelta(hours=1)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, soon: datetime) -> Iterator[TestClient]:
    election = Election(tmp_path_factory.mktemp("many") / "pool", heartbeat=0.1)
    for number in range(110):
        election.scheduled_job("interval", hours=1, id=f"code-{number:03}")(remind)
    app = FastAPI(lifespan=election.lifespan)
    app.include_router(election.router)
    app.include_router(election.metrics)

    @app.post("/add")
    async def add() -> None:
        await election.add_jobs([new_job(number, soon) for number in range(ADDED)])

    with TestClient(app) as client:
        until(lambda: client.get("/leader").status_code == 200, what="a leader")
        assert client.post("/add").status_code == 200
        until(lambda: client.get("/leader").json()["jobs_total"] == 110 + ADDED, what="all are known")
        until(lambda: all_are_planned(client), what="all are planned")
        until(lambda: ids(client.get("/leader").json()) == SHOWN, what="the leader has stored when each is due")
        yield client


def all_are_planned(client: TestClient) -> bool:
    jobs = client.get("/leader/jobs", params={"limit": 1000}).json()["jobs"]
    return len(jobs) == 110 + ADDED and all(job["next_run_time"] for job in jobs)


def ids(found: dict[str, Any]) -> list[str]:
    return [job["id"] for job in found["jobs"]]


def test_the_document_is_bounded(client: TestClient) -> None:
    found = client.get("/leader").json()
    assert ids(found) == SHOWN
    assert all(job["next_run_time"] for job in found["jobs"])
    assert found["problem"] is None, "the code is not another one because it is not shown whole"


def test_all_jobs_come_in_pages(client: TestClient) -> None:
    seen, page = [], client.get("/leader/jobs", params={"limit": 50}).json()
    while True:
        seen += ids(page)
        if page["next"] is None:
            break
        page = client.get("/leader/jobs", params={"limit": 50, "after": page["next"]}).json()
    assert seen == sorted(seen)
    assert len(seen) == len(set(seen)) == 110 + ADDED
    whole = client.get("/leader/jobs", params={"limit": 1000}).json()
    assert (ids(whole), whole["next"]) == (seen, None)


def test_a_job_is_the_same_in_both(client: TestClient) -> None:
    """Once the leader has said what it is for."""

    def agree() -> bool:
        listed = {job["id"]: job for job in client.get("/leader/jobs", params={"limit": 1000}).json()["jobs"]}
        return all(listed[job["id"]].items() >= job.items() for job in client.get("/leader").json()["jobs"])

    until(agree, what="both say the same")


def test_one_job_by_its_id(client: TestClient) -> None:
    """Not one whose id contains it; with its latest run, of which there is none here."""
    (found,) = client.get("/leader/jobs", params={"job": "reminder-007"}).json()["jobs"]
    assert (found["id"], found["last_run"]) == ("reminder-007", None)
    assert client.get("/leader/jobs", params={"job": "reminder-00"}).json() == {"jobs": [], "next": None}


def test_jobs_are_searched(client: TestClient) -> None:
    assert ids(client.get("/leader/jobs", params={"search": "REMINDER-00"}).json()) == [
        f"reminder-{number:03}" for number in range(10)
    ]
    odd = ids(client.get("/leader/jobs", params={"tag": "odd", "search": "01"}).json())
    assert odd == [
        "reminder-001",
        "reminder-011",
        "reminder-013",
        "reminder-015",
        "reminder-017",
        "reminder-019",
        "reminder-101",
    ]
    assert ids(client.get("/leader/jobs", params={"search": "nothing"}).json()) == []


def test_what_comes_next(client: TestClient, soon: datetime) -> None:
    until = (soon + timedelta(minutes=3)).isoformat()
    ticks = client.get("/leader/next", params={"limit": 1000, "until": until}).json()["ticks"]
    assert [tick["job_id"] for tick in ticks if tick["job_id"].startswith("rem")] == [
        "reminder-129", "reminder-128", "reminder-127",
    ]  # fmt: skip
    (one,) = client.get("/leader/next", params={"job": "reminder-000"}).json()["ticks"]
    assert one["job_id"] == "reminder-000"


@pytest.mark.extended
def test_the_command_says_that_there_are_more(client: TestClient) -> None:
    pool = client.get("/leader").json()["pool"]
    assert "and 40 more jobs: python -m election jobs lists all" in run("status", "--pool", pool)
    listed = run("jobs", "--pool", pool, "--search", "reminder", "--limit", "1000")
    assert listed.count("reminder-") == ADDED


def run(*arguments: str) -> str:
    """Output of the command."""
    command = [sys.executable, "-m", "election", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
