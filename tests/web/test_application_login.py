"""The application's own authentication in the place of the token: who may read, who may control, who is recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, FastAPI, HTTPException
from starlette.testclient import TestClient

from election import ConfigurationError, Election
from tests.support.login import LoginServer
from tests.support.waiting import until

MARK = {"X-Election-Control": "1"}
READ = ("", "/live", "/live/data", "/jobs", "/runs", "/skips", "/terms", "/changes", "/next")
CHANGES = ("resign", "jobs/job/run", "jobs/job/pause", "jobs/pause?tag=nightly", "runs/1/cancel")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoginServer]:
    served = LoginServer(tmp_path_factory.mktemp("login"))
    try:
        yield served.start()
    finally:
        served.reap()


def test_only_users_read(served: LoginServer) -> None:
    with served.client(None) as nobody, served.client("ann") as ann:
        for path in READ:
            assert nobody.get(served.url(path)).status_code == 401, path
            assert ann.get(served.url(path)).status_code == 200, path
        assert ann.get(served.url("/live/data")).json()["controls"] == "application"


def test_only_administrators_control_and_their_names_are_recorded(served: LoginServer) -> None:
    """Without a token in the environment; a refused change is not made, and leaves no entry."""
    with served.client(None) as nobody, served.client("ann") as ann, served.client("admin ben") as ben:
        for path in CHANGES:
            assert nobody.post(served.url(f"/{path}"), headers=MARK).status_code == 401, path
            assert ann.post(served.url(f"/{path}"), headers=MARK).json() == {"detail": "for administrators"}, path
        assert ann.get(served.url("/changes")).json()["changes"] == []
        assert ann.get(served.url("/control"), headers=MARK).status_code == 403
        assert ben.get(served.url("/control"), headers=MARK).status_code == 204
        request = ben.post(served.url("/jobs/job/run"), headers=MARK, json={"kwargs": {}}).json()["request"]
        until(lambda: ann.get(served.url(f"/requests/{request}")).json()["outcome"] == "ran")
        assert ben.post(served.url("/jobs/job/pause"), headers=MARK).status_code == 202
        assert ben.post(served.url("/jobs/resume?tag=nightly"), headers=MARK).json() == {"jobs": ["job"]}
        changes = ann.get(served.url("/changes?job=job")).json()["changes"]
        assert [(each["by"], each["action"], each["after"], each["request"]) for each in changes] == [
            ("admin ben", "resume", "all tagged nightly", None),
            ("admin ben", "pause", None, None),
            ("admin ben", "run", None, request),
        ]
        page = ann.get(served.url("/changes?limit=2")).json()
        assert page["next"] == changes[1]["seq"]
        (rest,) = ann.get(served.url(f"/changes?before={page['next']}")).json()["changes"]
        assert rest == changes[2]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {**MARK, "Sec-Fetch-Site": "cross-site"},
        {**MARK, "Sec-Fetch-Site": "same-site"},
        {**MARK, "Origin": "https://elsewhere.example"},
    ],
    ids=["no mark", "form", "cross-site", "same-site", "origin"],
)
def test_a_form_of_another_site_changes_nothing(served: LoginServer, headers: dict[str, str]) -> None:
    """CSRF: an administrator's cookie alone is not enough, whichever way the request was sent."""
    with served.client("admin ben") as ben:
        before = ben.get(served.url("/changes")).json()
        for path in CHANGES:
            answer = ben.post(served.url(f"/{path}"), headers=headers)
            assert answer.status_code == 403, path
            assert "other sites" in answer.text or "X-Election-Control" in answer.text
        preflight = ben.options(
            served.url("/jobs/job/pause"),
            headers={"Origin": "https://elsewhere.example", "Access-Control-Request-Headers": "x-election-control"},
        )
        assert not [name for name in preflight.headers if name.lower().startswith("access-control")]
        assert ben.get(served.url("/changes")).json() == before


@contextmanager
def client_with(pool: Path, **routes: Callable[..., Any]) -> Iterator[TestClient]:
    election = Election(pool, heartbeat=0.02)
    election.scheduled_job("interval", hours=1, id="job")(print)
    app = FastAPI(lifespan=election.lifespan)
    app.include_router(election.routes(**routes))
    with TestClient(app, headers=MARK, raise_server_exceptions=False) as client:
        until(lambda: client.get("/leader").status_code == 200, what="a leader")
        until(lambda: client.get("/leader").json()["jobs"][0]["next_run_time"])
        yield client


@pytest.mark.parametrize(
    ("found", "status", "recorded"),
    [("ann", 202, "ann"), (None, 202, "application"), ("", 403, None), ("x" * 256, 403, None), ("a\nb", 403, None)],
)
def test_the_dependency_names_who_is_recorded(pool: Path, found: str | None, status: int, recorded: str | None) -> None:
    with client_with(pool, control=lambda: found) as client:
        assert client.post("/leader/jobs/job/pause").status_code == status
        changes = client.get("/leader/changes").json()["changes"]
        assert [each["by"] for each in changes] == ([] if recorded is None else [recorded])


def test_a_dependency_that_returns_an_object_is_an_error_of_the_application(pool: Path) -> None:
    """An object's text may hold secrets, and is not recorded."""
    with client_with(pool, control=lambda: {"name": "ann", "password": "x"}) as client:
        assert client.post("/leader/jobs/job/pause").status_code == 500
        assert client.get("/leader/changes").json()["changes"] == []


def test_the_token_is_not_asked_where_the_application_decides(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELECTION_ADMIN_TOKEN", "a token for tests")

    async def nobody() -> None:
        raise HTTPException(401)

    with client_with(pool, control=nobody) as client:
        for headers in ({}, {"Authorization": "Bearer a token for tests"}):
            assert client.post("/leader/jobs/job/pause", headers=headers).status_code == 401


def test_changes_have_a_rate_limit(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("election.web.guard.MAX_CHANGES_PER_MINUTE", 3)
    with client_with(pool, control=lambda: "ann") as client:
        codes = [client.post("/leader/jobs/job/pause").status_code for _ in range(4)]
        assert codes == [202, 202, 202, 429]


def test_a_dependency_is_a_function(pool: Path) -> None:
    election = Election(pool)
    with pytest.raises(ConfigurationError, match="leave Depends out"):
        election.routes(control=Depends(print))  # type: ignore[arg-type]
