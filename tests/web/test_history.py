"""``GET /leader/runs``, ``/leader/skips``, ``/leader/terms``, and the jobs in ``GET /leader``: P4 and P8 by HTTP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from election import Election
from election.core.process import current_process
from election.core.term import Reason, Standing, Takeover, Term
from election.engines.file.ledger import SqliteLedger
from election.schedule.commands import Claim, DescribeJob, FinishRun, RecordLog, RegisterJob, Skip
from election.schedule.model import Action, JobInfo, LogLine, Outcome, RunLog, SkipReason, Tick
from election.web import history_cache, view
from tests.support.exchange import exchange
from tests.support.pool import WorkerPool
from tests.support.waiting import until

BEGAN = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
RUNS, SKIPS, TERMS = 250, 45, 12
OUTCOMES = (Outcome.INTERRUPTED, Outcome.SUCCEEDED, Outcome.FAILED, Outcome.SUCCEEDED, Outcome.SUCCEEDED)


async def note() -> None:
    """A job."""


def client_of(election: Election) -> TestClient:
    app = FastAPI(lifespan=election.lifespan)
    app.include_router(election.router)
    return TestClient(app)


def led(client: TestClient) -> dict[str, Any]:
    """The document, as soon as it names a leader."""
    until(lambda: client.get("/leader").status_code == 200, what="a leader")
    return dict(client.get("/leader").json())


async def fill(path: str) -> None:
    """A past: two jobs with 125 runs each, 45 skips of one of them, 12 terms; the last run is still open."""
    ledger = SqliteLedger(path)
    for number in range(1, TERMS + 1):
        at = BEGAN + timedelta(minutes=number)
        term = Term(number, at, Takeover(number, None, os.getpid(), Reason.DIED, at))
        await ledger.begin_term(term, current_process())
        if number == 1:
            trigger = {"type": "date", "run_date": BEGAN.isoformat()}
            await ledger.record(1, [RegisterJob(job, trigger, BEGAN, BEGAN) for job in ("even", "odd")])
            await ledger.record(1, [DescribeJob("odd", JobInfo("odd", tags=("strange",)))])
        if number < TERMS:
            await ledger.end_term(number, Standing.RESIGNED)
    for each in range(1, RUNS + 1):
        due = BEGAN + timedelta(seconds=each)
        tick = Tick("odd" if each % 2 else "even", due)
        outcome = OUTCOMES[each % len(OUTCOMES)]
        error = "ValueError: no" if outcome is Outcome.FAILED else None
        settled = [] if each == RUNS else [FinishRun(tick, outcome, due, error)]
        line = LogLine(due, "WARNING", "app", f"line of {each}")
        logs = [RecordLog(tick, RunLog(1, "Traceback …", (line,), 3))] if outcome is Outcome.FAILED else []
        await ledger.record(TERMS, [Claim(tick, due), *settled, *logs])
    for each in range(SKIPS):
        due = BEGAN + timedelta(seconds=RUNS + 1 + each)
        await ledger.record(TERMS, [Skip("even", due, due, 1, SkipReason.OVERLAP, due)])
    await ledger.request(Action.RUN, job_id="odd")
    await ledger.close()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A pool with a past, led by an Election with no job of its own."""
    pool = tmp_path_factory.mktemp("filled") / "pool"
    pool.mkdir(mode=0o700)
    asyncio.run(fill(str(pool / "ledger.db")))
    with client_of(Election(pool, heartbeat=0.05)) as client:
        led(client)
        until(lambda: client.get("/leader/terms").json()["terms"][0]["term"] == TERMS + 1)
        until(lambda: client.get("/leader/runs?outcome=running").json()["runs"] == [], what="what was open is settled")
        yield client


def walk(client: TestClient, kind: str, key: str, **filters: Any) -> list[dict[str, Any]]:
    """All pages, from the latest entry to the first."""
    found: list[dict[str, Any]] = []
    before = None
    while True:
        page = client.get(f"/leader/{kind}", params=filters | ({} if before is None else {"before": before})).json()
        found += page[kind]
        assert page["next"] is None or page["next"] == page[kind][-1][key]
        if (before := page["next"]) is None:
            return found


@pytest.mark.parametrize("limit", [3, 7, 50, 1000])
def test_the_pages_hold_every_run_exactly_once(filled: TestClient, limit: int) -> None:
    """P4 as anybody may check it: all runs are there, latest first, whatever the size of a page."""
    assert [run["seq"] for run in walk(filled, "runs", "seq", limit=limit)] == list(range(RUNS, 0, -1))


def test_the_pages_hold_every_skip_and_every_term_exactly_once(filled: TestClient) -> None:
    """P2, P4: the same for skips and terms; the present term is among them."""
    assert [skip["seq"] for skip in walk(filled, "skips", "seq", limit=4)] == list(range(SKIPS, 0, -1))
    assert [term["term"] for term in walk(filled, "terms", "term", limit=5)] == list(range(TERMS + 1, 0, -1))


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"job": "odd"}, 125),
        ({"job": "even", "limit": 9}, 125),
        ({"tag": "strange", "limit": 9}, 125),
        ({"tag": "strange", "outcome": "interrupted"}, 25),
        ({"tag": "strange", "job": "even"}, 0),
        ({"tag": "' OR 1=1 --"}, 0),
        ({"outcome": "failed"}, 50),
        ({"outcome": "interrupted", "limit": 3}, 50),
        ({"outcome": "interrupted", "job": "odd"}, 25),
        ({"outcome": "running"}, 0),  # what the former leader left open was settled by this one
        ({"job": "nobody"}, 0),
        ({"before": 0}, 0),
    ],
)
def test_filters_choose_and_are_kept_from_page_to_page(filled: TestClient, filters: Any, expected: int) -> None:
    """P4: a filter leaves nothing out and lets nothing in."""
    found = walk(filled, "runs", "seq", **filters)
    assert len({run["seq"] for run in found}) == len(found) == expected
    for run in found:
        assert run["job_id"] == filters.get("job", run["job_id"])
        assert run["outcome"] == filters.get("outcome", run["outcome"])


def test_skips_are_filtered_alike(filled: TestClient) -> None:
    assert len(walk(filled, "skips", "seq", job="even")) == SKIPS
    assert walk(filled, "skips", "seq", tag="strange") == []


def test_an_open_run_of_a_dead_leader_is_told_as_interrupted(filled: TestClient) -> None:
    """P4, docs/pitfalls.md#39: the run that its leader's death cut off says so, and whose it was."""
    (run,) = filled.get("/leader/runs", params={"limit": 1}).json()["runs"]
    assert (run["seq"], run["outcome"], run["term"]) == (RUNS, "interrupted", TERMS)
    assert f"term {TERMS}" in run["error"]


def test_entries_say_all_there_is(filled: TestClient) -> None:
    """P3, P4: the identity of the tick, the term that claimed it, and what became of it; times are UTC."""
    run = filled.get("/leader/runs", params={"outcome": "failed", "job": "odd", "limit": 1}).json()["runs"][0]
    due = BEGAN + timedelta(seconds=run["seq"])
    text = due.isoformat().replace("+00:00", "Z")
    assert run == {
        "seq": run["seq"], "job_id": "odd", "due": text, "request": 0, "term": TERMS, "attempt": 1,
        "claimed_at": text, "started_at": None, "ended_at": text, "outcome": "failed", "error": "ValueError: no",
        "attempts": [],
    }  # fmt: skip
    skip = filled.get("/leader/skips", params={"job": "even", "limit": 1}).json()["skips"][0]
    assert (skip["job_id"], skip["reason"], skip["count"], skip["term"]) == ("even", "overlap", 1, TERMS)
    assert skip["first_due"] == skip["last_due"]
    now, before = filled.get("/leader/terms", params={"limit": 2}).json()["terms"]
    assert (now["term"], now["pid"], now["ended_at"], now["standing"]) == (TERMS + 1, os.getpid(), None, None)
    assert (before["term"], before["reason"]) == (TERMS, "died")


def test_a_run_shows_the_log_of_each_attempt(filled: TestClient) -> None:
    """The traceback and the lines, as the job wrote them."""
    (seq,) = [run["seq"] for run in filled.get("/leader/runs", params={"outcome": "failed", "limit": 1}).json()["runs"]]
    found = filled.get(f"/leader/runs/{seq}").json()
    assert (found["seq"], found["error"]) == (seq, "ValueError: no")
    at = found["due"]
    line = {"at": at, "level": "WARNING", "logger": "app", "text": f"line of {seq}"}
    assert found["logs"] == [{"attempt": 1, "traceback": "Traceback …", "lines": [line], "dropped": 3}]
    assert filled.get("/leader/runs/1").json()["logs"] == []


def test_a_request_says_what_became_of_it(filled: TestClient) -> None:
    found = filled.get("/leader/requests/1").json()
    assert (found["id"], found["action"], found["job_id"]) == (1, "run", "odd")
    assert (found["outcome"], found["reason"], found["run"]) == ("refused", "there is no job 'odd' any more", None)
    assert found["done_at"] is not None


@pytest.mark.parametrize("path", ["runs/9999", "requests/9999", "runs/9223372036854775807"])
def test_what_is_not_there_is_404(filled: TestClient, path: str) -> None:
    answer = filled.get(f"/leader/{path}")
    assert answer.status_code == 404
    assert "or it has been pruned" in answer.json()["detail"]


@pytest.mark.parametrize(
    "query",
    [
        "runs/0", "runs/x", "runs/9223372036854775808", "requests/-1",
        "runs?limit=0", "runs?limit=1001", "runs?limit=many", "runs?before=-1", "runs?before=9223372036854775808",
        "runs?outcome=lost", f"runs?job={'x' * 501}", f"skips?tag={'x' * 51}", "skips?limit=0", "skips?before=x",
        "terms?limit=-1", "changes?limit=0", "terms?before=99999999999999999999",
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused(filled: TestClient, query: str) -> None:
    """A question that no ledger can answer is the client's error, never the server's."""
    answer = filled.get(f"/leader/{query}")
    assert answer.status_code == 422, answer.text


@pytest.mark.parametrize("query", ["runs?before=9223372036854775807", "runs?job=%00", "runs?job=' OR 1=1 --"])
def test_odd_questions_have_plain_answers(filled: TestClient, query: str) -> None:
    """The limits themselves are allowed, and a filter is a value and nothing else."""
    answer = filled.get(f"/leader/{query}")
    assert answer.status_code == 200
    assert len(answer.json()["runs"]) == (100 if "before" in query else 0)


def test_history_is_part_of_the_documented_interface(filled: TestClient) -> None:
    """Each route names its document, and its 503."""
    paths = filled.get("/openapi.json").json()["paths"]
    documents = {"runs": "Runs", "skips": "Skips", "terms": "Terms", "changes": "Changes", "runs/{seq}": "RunDocument"}
    documents["requests/{number}"] = "RequestEntry"
    for kind, model in documents.items():
        responses = paths[f"/leader/{kind}"]["get"]["responses"]
        assert responses["200"]["content"]["application/json"]["schema"] == {"$ref": f"#/components/schemas/{model}"}
        assert {"200", "422", "503"} <= responses.keys()


# --- jobs in /leader -------------------------------------------------------------------------------------------------


def test_the_jobs_in_the_document_say_when_they_run_next(pool: Path) -> None:
    """P8: each job of the code, its trigger, and the very tick that the ledger then claims."""
    election = Election(pool, heartbeat=0.05)
    election.scheduled_job("interval", seconds=0.3, id="often", coalesce=False)(note)
    election.scheduled_job("cron", month=1, day=1, timezone="UTC", id="rarely")(note)
    election.scheduled_job("date", run_date="2020-01-01", id="long ago", misfire_grace_time=1)(note)
    with client_of(election) as client:
        led(client)
        until(lambda: client.get("/leader/skips").json()["skips"], what="the tick of 2020 is given up")
        until(lambda: client.get("/leader").json()["jobs"][0]["next_run_time"])
        jobs = {job["id"]: job for job in client.get("/leader").json()["jobs"]}
        assert list(jobs) == ["often", "rarely", "long ago"]  # as in the code
        assert jobs["rarely"]["trigger"] == "cron[month='1', day='1']"
        assert jobs["rarely"]["next_run_time"] == f"{datetime.now(UTC).year + 1}-01-01T00:00:00Z"
        assert jobs["long ago"]["next_run_time"] is None
        assert {job["paused"] for job in jobs.values()} == {False}
        assert {job["broken"] for job in jobs.values()} == {None}
        due = jobs["often"]["next_run_time"]

        def tick_came() -> bool:
            return due in {run["due"] for run in client.get("/leader/runs?job=often").json()["runs"]}

        until(tick_came, what=f"the tick {due} runs")


def test_requests_at_the_same_time_see_the_same_jobs(pool: Path) -> None:
    """P8: while the first request still asks the ledger, a second one does not say that there are no jobs."""
    election = Election(pool, heartbeat=0.05)
    election.scheduled_job("interval", hours=1, id="job")(note)

    async def ask() -> None:
        async with election:
            app = FastAPI()
            app.include_router(election.router)
            async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://pool") as client:
                answers = await asyncio.gather(*(client.get("/leader") for _ in range(5)))
            assert [[job["id"] for job in answer.json()["jobs"]] for answer in answers] == [["job"]] * 5

    asyncio.run(ask())


def test_the_document_does_not_wait_for_a_ledger_that_does_not_answer(
    pool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P8: ``/leader`` never blocks: it tells who leads, and of the jobs what it knows."""
    election = Election(pool, heartbeat=0.05)
    election.scheduled_job("interval", hours=1, id="job")(note)
    with client_of(election) as client:
        led(client)
        never: list[asyncio.Event] = []

        async def silent(self: SqliteLedger, limit: int = 0) -> Any:
            never.append(asyncio.Event())
            await never[-1].wait()

        monkeypatch.setattr(SqliteLedger, "overview", silent)
        monkeypatch.setattr(view, "TIMEOUT_S", 0.05)
        until(lambda: client.get("/leader").json() and never, what="the ledger is asked")
        found = client.get("/leader").json()
        assert found["leader"]["pid"] == os.getpid()
        assert [job["id"] for job in found["jobs"]] == ["job"]


@pytest.mark.anyio
async def test_nothing_is_read_when_the_election_has_ended(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would open the ledger again, and find a directory that is about to be removed."""
    never = asyncio.Event()

    async def silent(*_: object) -> Any:
        await never.wait()

    monkeypatch.setattr(SqliteLedger, "overview", silent)
    monkeypatch.setattr(SqliteLedger, "window", silent)
    monkeypatch.setattr(view, "TIMEOUT_S", 0.05)
    monkeypatch.setattr(history_cache, "TIMEOUT_S", 0.05)
    election = Election(pool, heartbeat=0.05)
    app = FastAPI()
    app.include_router(election.router)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost") as client:
        async with election:
            assert (await client.get("/leader/live/data")).status_code == 200
            assert reading() == ["election live", "election view"]
        assert reading() == []


def reading() -> list[str]:
    names = {"election live", "election view"}
    return sorted(task.get_name() for task in asyncio.all_tasks() if task.get_name() in names)


def test_a_ledger_that_cannot_be_used_is_told_with_the_reason(pool: Path) -> None:
    """P8: the history answers 503, ``/leader`` says why and promises no next run; when it is back, so are the jobs."""
    election = Election(pool, heartbeat=0.05)
    election.scheduled_job("interval", hours=1, id="job")(note)
    with client_of(election) as client:
        led(client)
        until(lambda: client.get("/leader").json()["jobs"][0]["next_run_time"])
        (pool / "kept").mkdir()
        exchange(pool / "ledger.db", pool / "kept")
        problem = until(lambda: client.get("/leader").json()["problem"], what="a problem is told")
        assert "ledger.db" in problem
        until(lambda: client.get("/leader").json()["jobs"][0]["next_run_time"] is None)
        until(lambda: "unable to open" in client.get("/leader/runs").json().get("detail", ""))
        for kind in ("runs", "next", "skips", "terms"):
            answer = client.get(f"/leader/{kind}")
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        exchange(pool / "ledger.db", pool / "kept")
        until(lambda: client.get("/leader").json()["problem"] is None, what="the ledger is back")
        until(lambda: client.get("/leader").json()["jobs"][0]["next_run_time"])
        assert client.get("/leader/terms").status_code == 200


def test_a_ledger_from_the_future_is_a_503(pool: Path) -> None:
    """A newer worker has migrated the ledger under this one: the reason is told, by each route."""
    with client_of(Election(pool, heartbeat=0.05)) as client:
        led(client)
        until(lambda: client.get("/leader/terms").json()["terms"])
        with (pool / "ledger.db").open("rb") as file:
            header = bytearray(file.read())
        header[60:64] = (99).to_bytes(4, "big")
        (pool / "newer").write_bytes(header)
        for suffix in ("-wal", "-shm"):
            (pool / f"ledger.db{suffix}").unlink(missing_ok=True)
        (pool / "newer").rename(pool / "ledger.db")
        until(lambda: "upgrade election" in client.get("/leader/runs").json().get("detail", ""))
        for kind in ("runs", "next", "skips", "terms"):
            answer = client.get(f"/leader/{kind}")
            assert (answer.status_code, "upgrade election" in answer.text) == (503, True)
        until(lambda: "upgrade election" in (client.get("/leader").json()["problem"] or ""))


def test_a_worker_that_takes_no_part_says_so(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/pitfalls.md#35: without the lifespan each route answers 503 with the reason, and opens nothing."""
    monkeypatch.setenv("ELECTION_ADMIN_TOKEN", "a token for tests")
    client = client_of(Election(pool))  # not entered: the lifespan does not run
    for method, path in (("GET", "runs"), ("GET", "skips"), ("GET", "terms"), ("POST", "resign")):
        answer = client.request(method, f"/leader/{path}", headers={"Authorization": "Bearer a token for tests"})
        assert answer.status_code == 503
        assert "lifespan did not run" in answer.json()["detail"]
    assert not pool.exists()


def test_a_follower_answers_like_the_leader(pair: WorkerPool) -> None:
    """P7, P8: any worker answers from the one ledger; two processes say the same of what is past."""
    run = until(lambda: pair.facts("often"), what="a run")[0]
    leader, follower = pair.leader(), pair.follower()
    seq = until(lambda: follower.document("/leader/runs?job=often&limit=1")["runs"], what="it is in the ledger")[0][
        "seq"
    ]
    until(lambda: leader.document("/leader/runs?outcome=running")["runs"] == [])
    pages = [worker.document(f"/leader/runs?job=often&before={seq}") for worker in (leader, follower)]
    assert pages[0] == pages[1]
    assert [worker.job("often")["paused"] for worker in (leader, follower)] == [False, False]
    until(lambda: leader.document("/leader/terms") == follower.document("/leader/terms"), what="both tell the same")
    assert run["term"] in {term["term"] for term in follower.document("/leader/terms")["terms"]}
