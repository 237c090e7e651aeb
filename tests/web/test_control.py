"""Changing things by HTTP and from code, on whichever worker: P3, P4 and the durable part of control."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from election import Election, current_run
from election.engines import open_engine
from election.schedule.verify import Report, verify
from tests.support.exchange import exchange
from tests.support.lateness import lateness
from tests.support.pool import SAFETY_POLL_S, Worker, WorkerPool
from tests.support.waiting import until, until_async

TOKEN = "a token with spaces, and ümlauts"
AUTHORIZED = {b"Authorization": f"Bearer {TOKEN}".encode()}
HEARTBEAT = 0.02
ROUTES = (
    "resign",
    "jobs/job/run",
    "jobs/job/pause",
    "jobs/job/resume",
    "jobs/pause?tag=nightly",
    "jobs/resume?tag=nightly",
)

seen: list[str] = []
"""The keys of the runs that began in this process."""


async def remember() -> None:
    """A job."""
    seen.append(current_run().key)


@contextmanager
def served(pool: Path, *, seconds: float = 3600) -> Iterator[TestClient]:
    """A worker that leads; its one job is due every so many seconds."""
    election = Election(pool, heartbeat=HEARTBEAT)
    election.scheduled_job("interval", seconds=seconds, id="job", tags=["nightly"])(remember)
    app = FastAPI(lifespan=election.lifespan)
    app.include_router(election.router)
    with TestClient(app) as client:
        until(lambda: client.get("/leader").status_code == 200, what="a leader")
        until(lambda: job(client)["next_run_time"] or job(client)["paused"], what="the job is known")
        yield client


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELECTION_ADMIN_TOKEN", TOKEN)


def job(client: TestClient) -> dict[str, Any]:
    (found,) = client.get("/leader").json()["jobs"]
    return dict(found)


def tell(client: TestClient, path: str) -> dict[str, Any]:
    answer = client.post(f"/leader/{path}", headers=AUTHORIZED)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


# --- who may ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, "", "  "])
def test_without_a_token_there_are_no_such_routes(
    pool: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    """Routes that change something do not exist while no token is set: not to a guess, not in OpenAPI."""
    monkeypatch.delenv("ELECTION_ADMIN_TOKEN", raising=False)
    if value is not None:
        monkeypatch.setenv("ELECTION_ADMIN_TOKEN", value)
    with served(pool) as client:
        for route in ROUTES:
            for headers in ({b"Authorization": b"Bearer "}, AUTHORIZED):
                assert client.post(f"/leader/{route}", headers=headers).status_code == 404
        document = client.get("/openapi.json").json()
        assert {method for path in document["paths"].values() for method in path} == {"get"}
        assert "securitySchemes" not in document.get("components", {})


@pytest.mark.parametrize(
    "given",
    [
        None, b"", b"Bearer", b"Bearer ", b"Bearer wrong", b"Bearer " + TOKEN.encode()[:-1],
        b"Basic " + TOKEN.encode(), TOKEN.encode(), b"Bearer " + TOKEN.encode() * 2, b"Bearer \xff\xfe",
    ],
)  # fmt: skip
@pytest.mark.usefixtures("token")
def test_a_missing_or_wrong_token_is_refused(filled: TestClient, given: bytes | None) -> None:
    """401, with how to authenticate, whether or not the job exists; nothing is written."""
    for route in (*ROUTES, "jobs/no such job/run"):
        answer = filled.post(f"/leader/{route}", headers={} if given is None else {b"Authorization": given})
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert not job(filled)["paused"]
    assert filled.get("/leader/runs").json()["runs"] == []


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ELECTION_ADMIN_TOKEN", TOKEN)
        patch.setattr("election.web.guard.MAX_FAILURES_PER_MINUTE", 10_000)  # the limit has tests of its own
        with served(tmp_path_factory.mktemp("refused") / "pool") as client:
            yield client


def test_the_routes_and_how_to_authorize_are_documented(filled: TestClient) -> None:
    """With a token, each route is in OpenAPI with its answers, and a scheme that its page can use."""
    document = filled.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["admin token"]["scheme"] == "bearer"
    posts = {path: methods["post"] for path, methods in document["paths"].items() if "post" in methods}
    assert posts.keys() == {
        "/leader/resign",
        "/leader/runs/{seq}/cancel",
        *(f"/leader/jobs/{{job_id}}/{do}" for do in ("run", "pause", "resume")),
        *(f"/leader/jobs/{do}" for do in ("pause", "resume")),
    }
    for post in posts.values():
        assert post["security"] == [{"admin token": []}]
        assert {"202", "401", "503"} <= post["responses"].keys()


@pytest.mark.parametrize("what", ["run", "pause", "resume"])
def test_an_unknown_job_is_not_found(filled: TestClient, what: str) -> None:
    """404 names the job that there is not; nothing is written."""
    answer = filled.post(f"/leader/jobs/no/such job/{what}", headers=AUTHORIZED)
    assert answer.status_code == 404
    assert "'no/such job'" in answer.json()["detail"]


# --- what happens then -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("token")
def test_run_now_is_a_tick_of_its_own(pool: Path) -> None:
    """P3: it is claimed within a heartbeat, once, under an identity that no tick of the schedule has."""
    with lateness(pool.parent) as late, served(pool) as client:
        numbers = [tell(client, "jobs/job/run")["request"] for _ in range(3)]
        assert len({*numbers}) == 3

        def settled() -> list[Any]:
            runs = client.get("/leader/runs").json()["runs"]
            skips = client.get("/leader/skips").json()["skips"]
            return [runs, skips] if len(runs) + sum(skip["count"] for skip in skips) == 3 else []

        runs, skips = until(settled, what="all three have run, or are told as an overlap")
        until(lambda: {run["outcome"] for run in client.get("/leader/runs").json()["runs"]} == {"succeeded"})
        assert {skip["reason"] for skip in skips} <= {"overlap"}
        assert {run["request"] for run in runs} <= {*numbers}
        for run in runs:
            waited = datetime.fromisoformat(run["claimed_at"]) - datetime.fromisoformat(run["due"])
            assert waited.total_seconds() < HEARTBEAT + 2 + 3 * late()  # a heartbeat, and what a busy machine adds
            due = datetime.fromisoformat(run["due"]).isoformat()
            assert seen.count(f"job@{due}#{run['request']}") == 1


@pytest.mark.usefixtures("token")
def test_a_token_is_tried_without_a_change(pool: Path) -> None:
    with served(pool) as client:
        assert client.get("/leader/control", headers=AUTHORIZED).status_code == 204
        assert client.get("/leader/control", headers={"Authorization": "Bearer wrong"}).status_code == 401


@pytest.mark.usefixtures("token")
def test_arguments_need_the_token(pool: Path) -> None:
    """They may be secret; the value of one with such a name is shown to nobody."""
    election = Election(pool, heartbeat=HEARTBEAT)
    arguments = {"day": "x" * 1000, "api_token": "s3cret"}
    election.scheduled_job("interval", hours=1, id="job", args=[7], kwargs=arguments)(take)
    app = FastAPI(lifespan=election.lifespan)
    app.include_router(election.router)
    with TestClient(app) as client:
        until(lambda: client.get("/leader/jobs").json().get("jobs"), what="the job is in the ledger")
        path = "/leader/jobs/job/arguments"
        found = client.get(path, headers=AUTHORIZED).json()["arguments"]
        assert list(found) == ["args[0]", "day", "api_token"]
        assert (found["args[0]"], found["api_token"]) == ("7", "(hidden)")
        assert found["day"].startswith("'xxx")
        assert len(found["day"]) <= 300
        assert client.get(path).status_code == 401
        assert client.get("/leader/jobs/nobody/arguments", headers=AUTHORIZED).status_code == 404
        assert "xxx" not in client.get("/leader/jobs").text + client.get("/leader/live/data").text


def take(number: int, day: str, api_token: str) -> None:
    """A job with arguments."""


@pytest.mark.usefixtures("token")
def test_a_listed_job_has_its_latest_run(pool: Path) -> None:
    with served(pool) as client:
        assert client.get("/leader/jobs?job=job").json()["jobs"][0]["last_run"] is None
        tell(client, "jobs/job/run")
        run = until(lambda: client.get("/leader/runs?outcome=succeeded").json()["runs"], what="a run")[0]
        assert client.get("/leader/jobs?job=job").json()["jobs"][0]["last_run"] == run


@pytest.mark.usefixtures("token")
def test_a_run_is_cancelled(pool: Path) -> None:
    election = Election(pool, heartbeat=HEARTBEAT)

    @election.scheduled_job("interval", hours=1, id="job", at_start=True)
    async def waits() -> None:
        await asyncio.Event().wait()

    app = FastAPI(lifespan=election.lifespan)
    app.include_router(election.router)
    with TestClient(app, headers=AUTHORIZED) as client:
        (run,) = until(lambda: client.get("/leader/runs?outcome=running").json()["runs"])
        assert client.post("/leader/runs/999/cancel").status_code == 404
        number = client.post(f"/leader/runs/{run['seq']}/cancel").json()["request"]
        until(lambda: client.get(f"/leader/requests/{number}").json()["outcome"] == "cancelled")
        until(lambda: client.get(f"/leader/runs/{run['seq']}").json()["outcome"] == "interrupted")
        number = client.post(f"/leader/runs/{run['seq']}/cancel").json()["request"]
        refused = until(lambda: (found := client.get(f"/leader/requests/{number}").json())["outcome"] and found)
        assert (refused["outcome"], refused["reason"]) == ("refused", "it does not run any more")


@pytest.mark.usefixtures("token")
def test_a_run_with_arguments(pool: Path) -> None:
    election = Election(pool, heartbeat=HEARTBEAT)
    seen: list[str] = []

    @election.scheduled_job("interval", hours=1, id="job", kwargs={"what": "own"}, max_instances=3)
    async def note(what: str) -> None:
        seen.append(what)

    app = FastAPI(lifespan=election.lifespan)
    app.include_router(election.router)
    with TestClient(app, headers=AUTHORIZED) as client:
        for arguments in (None, {}, {"kwargs": {"what": "given"}}):
            assert client.post("/leader/jobs/job/run", json=arguments).status_code == 202
        until(lambda: len(seen) == 3, what="all three have run")
        refused = client.post("/leader/jobs/job/run", json={"kwargs": {"who": "?"}})
        assert refused.status_code == 422
        assert "job 'job' cannot be called with these arguments" in refused.json()["detail"]
        assert client.post("/leader/jobs/job/run", json={"kwargs": []}).status_code == 422
        assert client.post("/leader/jobs/job/run", json={"what": "given"}).status_code == 422, "not within kwargs"
    assert sorted(seen) == ["given", "own", "own"]


@pytest.mark.usefixtures("token")
def test_run_now_works_while_paused(pool: Path) -> None:
    """A pause lets the schedule's ticks pass; who asks for a run gets it."""
    with served(pool) as client:
        tell(client, "jobs/job/pause")
        until(lambda: job(client)["paused"])
        run_now(client)


@pytest.mark.usefixtures("token")
@pytest.mark.extended
def test_a_pause_survives_a_restart_and_is_explained_when_it_ends(pool: Path) -> None:
    """P4: from the pause on, nothing runs, in this term and in the next; the ticks are under a skip ``paused``."""
    with served(pool, seconds=0.1) as client:
        until(lambda: client.get("/leader/runs").json()["runs"], what="it runs")
        assert tell(client, "jobs/job/pause") == {"request": None}
        tell(client, "jobs/job/pause")  # twice is once
        until(lambda: job(client)["paused"] and client.get("/leader/runs?outcome=running").json()["runs"] == [])
        last = run_now(client)
        assert job(client)["next_run_time"] is None
    with served(pool, seconds=0.1) as client:
        assert job(client)["paused"]
        assert run_now(client) == last + 1, "only what was asked for ran since"
        tell(client, "jobs/job/resume")
        until(lambda: client.get("/leader/runs").json()["runs"][0]["seq"] > last + 1, what="it runs again")
        until(lambda: not job(client)["paused"] and job(client)["next_run_time"])
        paused = [skip for skip in client.get("/leader/skips").json()["skips"] if skip["reason"] == "paused"]
        resumed = [run for run in client.get("/leader/runs").json()["runs"] if run["seq"] > last + 1]
        assert max(skip["last_due"] for skip in paused) < min(run["due"] for run in resumed)
    assert_promises_held(pool)


def run_now(client: TestClient) -> int:
    """Run the job now; returns the run's number, at which the leader has carried out all that was asked before."""
    number = tell(client, "jobs/job/run")["request"]

    def run() -> int | None:
        runs = client.get("/leader/runs?outcome=succeeded").json()["runs"]
        return next((run["seq"] for run in runs if run["request"] == number), None)

    return until(run, what="the run that was asked for") or 0


def assert_promises_held(pool: Path) -> None:
    """Assert that ``python -m election verify`` finds no violation."""

    async def judge() -> Report:
        ledger = open_engine(pool, heartbeat=1, safety_poll=1).open_reader()
        try:
            return await verify(ledger, now=datetime.now(UTC))
        finally:
            await ledger.close()

    assert asyncio.run(judge()).violations == ()


@pytest.mark.usefixtures("token")
def test_all_jobs_with_a_tag_are_paused_and_resumed(pool: Path) -> None:
    with served(pool) as client:
        assert tell(client, "jobs/pause?tag=nightly") == {"jobs": ["job"]}
        until(lambda: job(client)["paused"])
        assert tell(client, "jobs/resume?tag=nightly") == {"jobs": ["job"]}
        until(lambda: not job(client)["paused"])
        unknown = client.post("/leader/jobs/pause?tag=daily", headers=AUTHORIZED)
        assert unknown.status_code == 404
        assert "'daily'" in unknown.json()["detail"]
        assert client.post("/leader/jobs/pause", headers=AUTHORIZED).status_code == 422
        changes = client.get("/leader/changes").json()["changes"]
        assert [(each["action"], each["job_id"], each["by"]) for each in changes] == [
            ("resume", "job", "token"),
            ("pause", "job", "token"),
        ]


@pytest.mark.usefixtures("token")
def test_resume_without_a_pause_changes_nothing(pool: Path) -> None:
    """Idempotent, like the pause."""
    with served(pool) as client:
        tell(client, "jobs/job/resume")
        assert not job(client)["paused"]
        assert client.get("/leader/skips").json()["skips"] == []


@pytest.mark.usefixtures("token")
def test_to_resign_is_to_begin_a_new_term(pool: Path) -> None:
    """P2, P6: the leader steps down within a heartbeat; alone in its pool, it is elected again, for a later term."""
    with served(pool) as client:
        before = client.get("/leader").json()["leader"]["term"]
        tell(client, "resign")
        assert until(lambda: term_after(client, before), what="a later term") == before + 1
        ended = until(lambda: [term for term in client.get("/leader/terms").json()["terms"] if term["standing"]])
        assert (ended[0]["term"], ended[0]["standing"]) == (before, "resigned")
        run_now(client)
        assert client.get("/leader").json()["leader"]["term"] == before + 1, "an old request is not carried out again"


def term_after(client: TestClient, term: int) -> int:
    """The present term, if it is a later one; else 0."""
    found = client.get("/leader").json()["leader"]
    return int(found["term"]) if found and found["term"] > term else 0


@pytest.mark.usefixtures("token")
def test_nothing_is_accepted_that_cannot_be_written_down(pool: Path) -> None:
    """A 202 is a promise: while the ledger cannot be used, the answer is 503 with the reason, and nothing is done."""
    with served(pool) as client:
        (pool / "kept").mkdir()
        exchange(pool / "ledger.db", pool / "kept")
        for route in ROUTES:

            def refused(route: str = route) -> bool:
                answer = client.post(f"/leader/{route}", headers=AUTHORIZED)
                assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
                return "unable to open" in answer.json()["detail"]

            until(refused)  # the first answer after the loss says that the ledger is gone
        exchange(pool / "ledger.db", pool / "kept")
        until(lambda: client.get("/leader").json()["problem"] is None)
        assert not job(client)["paused"]
        tell(client, "jobs/job/pause")
        until(lambda: job(client)["paused"])


@pytest.mark.usefixtures("token")
def test_nobody_can_resign_when_nobody_leads(pool: Path) -> None:
    """P8: 503 with the reason while there is no leader; the request is not kept for a later one."""
    pool.mkdir(mode=0o700)
    with (pool / "leader.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)  # as an orphan would hold it
        election = Election(pool, heartbeat=HEARTBEAT, safety_poll=0.1)
        election.scheduled_job("interval", hours=1, id="job")(remember)
        app = FastAPI(lifespan=election.lifespan)
        app.include_router(election.router)
        with TestClient(app) as client:
            answer = client.post("/leader/resign", headers=AUTHORIZED)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            assert "nobody leads" in answer.json()["detail"]
            fcntl.flock(other, fcntl.LOCK_UN)
            until(lambda: client.get("/leader").status_code == 200)
            until(lambda: job(client)["next_run_time"])
            run_now(client)
            assert client.get("/leader").json()["leader"]["term"] == 1


# --- from the follower -----------------------------------------------------------------------------------------------


def test_a_follower_can_be_asked_to_run_pause_and_resume(pair: WorkerPool) -> None:
    """It works on whichever worker gets the request, with an id that has to be quoted; the leader does it, once."""
    leader, follower = pair.leader(), pair.follower()
    number = follower.post("/leader/jobs/now%20and/then/run")["request"]
    fact = until(lambda: pair.facts("now and/then"), what="it runs")[0]
    assert fact["pid"] == leader.pid
    assert fact["key"].endswith(f"#{number}")
    follower.post("/leader/jobs/now%20and/then/pause")
    until(lambda: all(worker.job("now and/then")["paused"] for worker in (leader, follower)))
    leader.post("/leader/jobs/now%20and/then/resume")
    until(lambda: not any(worker.job("now and/then")["paused"] for worker in (leader, follower)))
    assert len(pair.facts("now and/then")) == 1


def test_a_follower_can_ask_the_leader_to_resign(pair: WorkerPool) -> None:
    """P2, P6: the next term begins, because the leader of the one before resigned; it is the other's turn first."""
    leader, follower = pair.leader(), pair.follower()
    term = leader.document()["leader"]["term"]
    follower.post("/leader/resign")
    heir = pair.leader(after=term)
    takeover = heir.document()["last_takeover"]
    assert heir is follower or takeover["vacant_s"] >= SAFETY_POLL_S
    assert (takeover["term"], takeover["from_pid"], takeover["reason"]) == (term + 1, leader.pid, "resigned")
    until(lambda: follower.document("/leader/terms")["terms"][1]["standing"] == "resigned")


def test_a_job_added_by_a_follower_runs_wherever_the_leader_is(pair: WorkerPool) -> None:
    """The oldest complaint about APScheduler under several workers: an endpoint adds a job, and only the leader has to
    run it; it survives the leader's death, and is gone for all when a worker removes it."""
    leader, follower = pair.leader(), pair.follower()
    add(follower, "added", "tests.support.jobs:note", text="hello")
    fact = until(lambda: pair.facts("added"), what="it runs")[0]
    assert (fact["pid"], fact["text"]) == (leader.pid, "hello")
    until(lambda: leader.job("added").get("next_run_time") and follower.job("added").get("next_run_time"))
    assert {worker.job("added")["trigger"] for worker in (leader, follower)} == {"interval[0:00:00.250000]"}
    assert pair.kill_leader() == leader.pid
    until(lambda: pair.facts("added")[-1]["pid"] == follower.pid, what="the next leader runs it")
    keys = [fact["key"] for fact in pair.facts("added")]
    assert len(set(keys)) == len(keys)
    pair.start(1)
    other = pair.follower()
    assert other.request("DELETE", "/jobs/added").status_code == 200
    until(lambda: not any(worker.job("added") for worker in (follower, other)), what="no worker knows it")
    assert other.request("DELETE", "/jobs/added").status_code == 400  # UnknownJobError
    assert follower.document("/leader/runs?job=added&limit=1")["runs"], "its history stays"


def test_what_no_other_process_could_run_is_not_stored(pair: WorkerPool) -> None:
    """A reference that does not import, or the name of a job in the code, is refused at once, and by the follower."""
    follower = pair.follower()
    for job_id, func in (
        ("lost", "tests.support.jobs:no_such"),
        ("lost", "no_such_module:x"),
        ("often", "tests.support.jobs:note"),
    ):
        answer = follower.request("PUT", f"/jobs/{job_id}", params={"func": func, "seconds": 1})
        assert answer.status_code == 400
        assert "JobDefinitionError" in answer.text
    assert follower.job("lost") == {}


def test_a_broken_reference_is_told_and_nothing_else_suffers(fresh: WorkerPool) -> None:
    """A stored job whose function the leader cannot import, as after a deployment that dropped it, is broken, with the
    error, in any worker's /leader; the others run on, and it runs under the next leader that can import it."""
    fresh.start(1, modules=fresh.path)
    fresh.start(1)
    leader, follower = fresh.leader(), fresh.follower()
    (fresh.modules / "dropped.py").write_text("from tests.support.jobs import note\n")
    add(follower, "dropped", "dropped:note")
    until(lambda: leader.job("dropped").get("broken") and follower.job("dropped").get("broken"), what="it is told")
    for worker in (leader, follower):
        assert "dropped:note cannot be imported" in worker.job("dropped")["broken"]
        assert worker.job("dropped")["next_run_time"] is None
        assert worker.document()["problem"] is None
    before = len(fresh.facts("often"))
    until(lambda: len(fresh.facts("often")) > before + 2, what="the other jobs run on")
    assert fresh.facts("dropped") == []
    fresh.kill_leader()
    until(lambda: fresh.facts("dropped"), what="the next leader runs it")
    until(lambda: follower.job("dropped")["broken"] is None and follower.job("dropped")["next_run_time"])
    assert_promises_held(fresh.path)
    assert "Traceback" not in fresh.log.read_text()


def test_an_added_job_survives_a_restart_of_the_whole_pool(pool: Path) -> None:
    """It is in the ledger and nowhere else: an Election that has never heard of it runs it, with its arguments."""

    async def add_it() -> None:
        async with Election(pool, heartbeat=HEARTBEAT) as election:
            await until_async(lambda: election.is_leader)
            await election.add_job(
                "tests.web.test_control:remember_word", "interval", id="added", seconds=0.1, kwargs={"word": "well"}
            )

    async def run_it() -> None:
        async with Election(pool, heartbeat=HEARTBEAT):
            await until_async(lambda: "well" in seen)

    asyncio.run(add_it())
    asyncio.run(run_it())
    assert_promises_held(pool)


async def remember_word(word: str) -> None:
    """A job with an argument."""
    seen.append(word)


def add(worker: Worker, job_id: str, func: str, **kwargs: Any) -> None:
    answer = worker.request("PUT", f"/jobs/{job_id}", params={"func": func, "seconds": 0.25}, json=kwargs or None)
    assert answer.status_code == 200, answer.text
