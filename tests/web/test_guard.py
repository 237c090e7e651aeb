"""Protection of changes: the limits, the sites, the token; and no secret appears anywhere."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import Depends, FastAPI, HTTPException, Request
from starlette.testclient import TestClient

from election import ConfigurationError, Election
from election.web.guard import MAX_CHANGES_PER_MINUTE, MAX_FAILURES_PER_MINUTE, MAX_KEYS, RateLimit, is_cross_site
from tests.schedule.stored_functions import keep_quiet
from tests.support.waiting import until

TOKEN = "correct horse battery staple"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
ROOT = Path(__file__).parents[2]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_limit_gives_back_what_time_has_earned() -> None:
    clock = Clock()
    limit = RateLimit(10, per=60, clock=clock)
    assert [limit.take("a") for _ in range(10)] == [None] * 10
    assert limit.take("a") == pytest.approx(6)
    assert limit.take("b") is None, "each key has its own"
    clock.now = 6.0
    assert limit.take("a") is None
    assert limit.take("a") == pytest.approx(6)
    clock.now = 1e6
    assert [limit.take("a") for _ in range(10)] == [None] * 10, "never more than that at once"
    assert limit.take("a") is not None


def test_a_limit_remembers_so_many_keys_and_no_more() -> None:
    limit = RateLimit(1, per=60, clock=Clock())
    for key in range(MAX_KEYS + 1):
        assert limit.take(str(key)) is None
    assert len(limit._buckets) == MAX_KEYS
    assert limit.take("1") is not None
    assert limit.take("0") is None, "the one that was used least recently is forgotten"


@pytest.mark.parametrize(
    ("fetch_site", "origin", "cross"),
    [
        (None, None, False),  # no browser
        ("same-origin", "http://app:8000", False),
        ("none", None, False),
        ("same-origin", "http://outside.example", False),  # a proxy stands between, and has changed the host
        ("cross-site", None, True),
        ("cross-site", "http://app:8000", True),
        (None, "http://evil.example", True),
        (None, "http://app:8001", True),
        (None, "null", True),  # a sandboxed frame, or a form from a data: address
        ("same-site", "http://other.app:8000", True),
    ],
)
def test_what_comes_from_another_site(fetch_site: str | None, origin: str | None, cross: bool) -> None:
    assert is_cross_site(fetch_site, origin, "app:8000") is cross


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("ELECTION_ADMIN_TOKEN", TOKEN)
    election = Election(tmp_path / "pool", heartbeat=0.02)

    @election.scheduled_job("interval", hours=1, id="job")
    async def job() -> None: ...

    app = FastAPI(lifespan=election.lifespan)
    app.include_router(election.router)
    app.include_router(election.metrics)

    @app.post("/add")
    async def add() -> None:
        secret = {"password": "hunter2"}
        await election.add_job(keep_quiet, "interval", hours=1, id="stored", kwargs=secret)

    with TestClient(app, base_url="http://app:8000") as client:
        until(lambda: client.get("/leader").json()["jobs"][0]["next_run_time"])
        yield client


def test_who_guesses_has_to_wait_and_who_knows_has_not(served: TestClient) -> None:
    wrong = {"Authorization": "Bearer a guess"}
    answers = [served.post("/leader/jobs/job/pause", headers=wrong)]
    while answers[-1].status_code == 401 and len(answers) < 10 * MAX_FAILURES_PER_MINUTE:  # some come back meanwhile
        answers.append(served.post("/leader/jobs/job/pause", headers=wrong))
    assert [answer.status_code for answer in answers[:-1]] == [401] * (len(answers) - 1)
    assert len(answers) > MAX_FAILURES_PER_MINUTE
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["Retry-After"]) >= 1
    assert served.post("/leader/jobs/job/pause", headers=AUTHORIZED).status_code == 202


def test_changes_are_limited_too(served: TestClient) -> None:
    codes = [202]
    while codes[-1] == 202 and len(codes) < 10 * MAX_CHANGES_PER_MINUTE:
        codes.append(served.post("/leader/jobs/job/resume", headers=AUTHORIZED).status_code)
    assert codes[-1] == 429
    assert len(codes) > MAX_CHANGES_PER_MINUTE


def test_another_site_is_refused_and_this_one_is_not(served: TestClient) -> None:
    for told in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = served.post("/leader/jobs/job/pause", headers=AUTHORIZED | told)
        assert answer.status_code == 403
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    own = {"Origin": "http://app:8000", "Sec-Fetch-Site": "same-origin"}
    assert served.post("/leader/jobs/job/pause", headers=AUTHORIZED | own).status_code == 202


def test_a_form_cannot_bring_the_token(served: TestClient) -> None:
    assert served.post("/leader/resign", data={"Authorization": f"Bearer {TOKEN}"}).status_code == 401


def test_a_token_that_could_be_guessed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELECTION_ADMIN_TOKEN", "secret")
    with pytest.raises(ConfigurationError, match="6 characters, and could be guessed: give it at least 16"):
        _ = Election(tmp_path / "pool").router


@pytest.mark.extended
def test_nothing_secret_is_told(served: TestClient, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The token, and the arguments of jobs: not in documents, metrics, refusals, logs or at the command line."""
    caplog.set_level(logging.DEBUG)
    served.post("/add")
    until(lambda: "stored" in served.get("/leader").text)
    served.post("/leader/jobs/stored/run", headers=AUTHORIZED)
    until(lambda: "stored" in served.get("/leader/runs").text)
    paths = ["/leader", "/leader/runs", "/leader/skips", "/leader/terms", "/leader/live", "/metrics", "/openapi.json"]
    told = [served.get(path).text for path in paths] + [served.get("/leader/live/data").text]
    told += [served.post("/leader/resign", headers={"Authorization": f"Bearer {TOKEN}x"}).text, caplog.text]
    for command in ("status", "runs"):
        done = subprocess.run(
            [sys.executable, "-m", "election", command, "--json", "--pool", str(tmp_path / "pool")],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert json.loads(done.stdout)
        told.append(done.stdout + done.stderr)
    assert [text for text in told if TOKEN in text or "hunter2" in text] == []


def test_an_engines_url_is_told_without_its_password() -> None:
    with pytest.raises(ConfigurationError) as refused:
        Election("oracle://user:hunter2@host/db")
    assert "hunter2" not in str(refused.value)


def test_the_routes_can_stand_behind_a_dependency_of_ones_own(tmp_path: Path) -> None:
    """As docs/security.md shows it."""

    async def only_us(request: Request) -> None:
        if request.headers.get("X-Team") != "operations":
            raise HTTPException(403)

    election = Election(tmp_path / "pool")
    app = FastAPI(lifespan=election.lifespan)
    app.include_router(election.router, dependencies=[Depends(only_us)])
    with TestClient(app) as client:
        assert client.get("/leader").status_code == 403
        until(lambda: client.get("/leader", headers={"X-Team": "operations"}).status_code == 200)
