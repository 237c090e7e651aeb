"""``GET /leader/live`` and its document, without a browser: what is sent, and what a bad ledger makes of it (P8)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import resources
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
from election.schedule.commands import Claim, FinishRun, RegisterJob, Skip
from election.schedule.model import Outcome, SkipReason, Tick
from election.web import history_cache
from tests.support.exchange import exchange
from tests.support.jobs import HOSTILE
from tests.support.waiting import until

BEGAN = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
RUNS, SKIPS, TERMS = 3600, 1500, 6


async def note() -> None:
    """A job."""


def client_of(election: Election, *, prefix: str = "") -> TestClient:
    app = FastAPI(lifespan=election.lifespan)
    app.include_router(election.router, prefix=prefix)
    return TestClient(app)


def ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def data(client: TestClient, **query: int) -> dict[str, Any]:
    answer = client.get("/leader/live/data", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return dict(answer.json())


def history(client: TestClient, **query: int) -> dict[str, Any]:
    """The ledger's part, as soon as the ledger has answered in time: a busy machine takes longer."""

    def answered() -> dict[str, Any] | None:
        found = dict(data(client, **query)["history"])
        return None if found["problem"] == "the ledger does not answer" else found

    return until(answered, what="the ledger answers")


async def fill(path: str) -> None:
    """A past: a run each second for an hour in six terms, each hundredth failed; then skips; the last run is open."""
    ledger = SqliteLedger(path)
    for number in range(1, TERMS + 1):
        at = BEGAN + timedelta(minutes=10 * (number - 1))
        await ledger.begin_term(Term(number, at, Takeover(number, None, 1, Reason.DIED, at)), current_process())
        if number == 1:
            await ledger.record(1, [RegisterJob("job", {"type": "date", "run_date": BEGAN.isoformat()}, BEGAN, BEGAN)])
        entries: list[Any] = []
        for second in range(600 * (number - 1), 600 * number):
            due = BEGAN + timedelta(seconds=second)
            tick, failed = Tick("job", due), second % 100 == 99
            entries.append(Claim(tick, due))
            if second != 3000:  # it runs on and on
                outcome, error = (Outcome.FAILED, HOSTILE * 20) if failed else (Outcome.SUCCEEDED, None)
                entries.append(FinishRun(tick, outcome, due + timedelta(milliseconds=5), error))
        await ledger.record(number, entries)
        if number % 2 == 0:
            await ledger.end_term(number, Standing.RESIGNED)
    dues = [BEGAN + timedelta(hours=1, seconds=each) for each in range(SKIPS)]
    await ledger.record(TERMS, [Skip("job", due, due, 1, SkipReason.OVERLAP, due) for due in dues])
    await ledger.close()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    pool = tmp_path_factory.mktemp("filled") / "pool"
    pool.mkdir(mode=0o700)
    asyncio.run(fill(str(pool / "ledger.db")))
    with client_of(Election(pool, heartbeat=0.05)) as client:
        until(lambda: client.get("/leader").status_code == 200)
        until(lambda: client.get("/leader/terms").json()["terms"][0]["term"] == TERMS + 1)
        until(lambda: client.get("/leader/runs?outcome=running").json()["runs"] == [], what="what was open is settled")
        yield client


# --- the page --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(filled: TestClient) -> str:
    return str(filled.get("/leader/live").text)


def test_the_page_is_small_and_whole(filled: TestClient, page: str) -> None:
    """Less than 90 kB in one answer, which names no address but its own: nothing else is ever fetched."""
    assert len(page.encode()) < 90_000
    outside = {
        found for found in re.findall(r"https?://[^\"'\s)]+", page) if not found.startswith("http://www.w3.org/")
    }
    assert outside == set()  # those of w3.org are the names of SVG, which nobody asks
    assert re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"(?!data:)[^\"]+\"", page) == []
    assert "/*script*/" not in page
    assert filled.get("/leader/live").headers["content-type"] == "text/html; charset=utf-8"


def test_the_policy_allows_what_is_in_the_page_and_nothing_else(filled: TestClient, page: str) -> None:
    """The hashes are those of the page's one style and one script; no attribute needs an exception."""
    headers = filled.get("/leader/live").headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    for name, directive in (("script", "script-src"), ("style", "style-src")):
        (text,) = re.findall(rf"<{name}>(.*?)</{name}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert policy.pop(directive) == f"'sha256-{digest}'"
    assert policy == {
        "default-src": "'none'", "connect-src": "'self'", "img-src": "data:", "frame-ancestors": "'none'",
        "base-uri": "'none'", "form-action": "'none'", "require-trusted-types-for": "'script'",
    }  # fmt: skip
    assert re.findall(r"<[a-z][^>]*\s(?:on\w+|style)=", page.partition("<script>")[0]) == []
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


def test_nothing_becomes_markup(page: str) -> None:
    """The script knows no way to make markup of a text, and the policy would refuse it."""
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "DOMParser"):
        assert way not in page


def test_the_page_is_part_of_the_package() -> None:
    """Each part is read from the package itself, and none lies there unused."""
    from election.web.live import SCRIPTS

    found = {each.name for each in (resources.files("election.web") / "page").iterdir()}
    assert found == {"live.html", "live.css", *SCRIPTS}


def test_the_page_works_under_a_prefix(tmp_path: Path) -> None:
    """All that it asks for is named relative to itself."""
    with client_of(Election(tmp_path / "pool", heartbeat=0.05), prefix="/admin") as client:
        text = client.get("/admin/leader/live").text
        assert client.get("/admin/leader/live/data").status_code == 200
    asked = re.findall(r"(?:ask|read|about)\([`\"]([^`\"$?]+)", text)
    assert {*asked} == {
        "live/data", "live/runs", "live/counts", "jobs", "jobs/", "requests/", "control", "runs", "runs/", "skips",
        "changes", "next",
    }  # fmt: skip


@pytest.mark.parametrize("path", ["/leader/live", "/leader/live/data", "/leader/live/counts?days=1"])
def test_answers_are_compressed_for_those_who_can_read_that(filled: TestClient, path: str) -> None:
    whole = filled.get(path, headers={"Accept-Encoding": "identity"})
    packed = filled.get(path, headers={"Accept-Encoding": "br, gzip"})
    assert "content-encoding" not in whole.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert whole.headers["vary"] == packed.headers["vary"] == "Accept-Encoding"
    assert int(packed.headers["content-length"]) < len(whole.content) == int(whole.headers["content-length"])
    if path == "/leader/live":
        assert packed.text == whole.text


def test_jobs_that_have_not_changed_are_left_out(tmp_path: Path) -> None:
    """With 59 jobs that stand still, an answer has less than 1.5 kB, three of which a second are less than 5 kB."""
    election = Election(tmp_path / "pool", heartbeat=0.05)
    for number in range(59):
        election.add_job(note, "interval", hours=1, id=f"job-{number}", name=f"Report of {number}", tags=["reports"])
    with client_of(election) as client:
        until(lambda: data(client)["pool"]["leader"] and data(client)["pool"]["jobs"][58]["next_run_time"])
        whole = data(client, known=0)
        assert len(whole["pool"]["jobs"]) == 59
        since = round(whole["now"]) - 3000
        answer = client.get("/leader/live/data", params={"since": since, "known": whole["checksum"]})
        assert "jobs" not in answer.json()["pool"]
        assert int(answer.headers["content-length"]) < 1500
        client.portal.call(election.jobs.pause, "job-7")  # type: ignore[union-attr]
        changed = until(lambda: data(client, known=whole["checksum"])["pool"].get("jobs"), what="there is news")
        assert [job["id"] for job in changed if job["paused"]] == ["job-7"]


# --- its document ----------------------------------------------------------------------------------------------------


def test_a_stretch_holds_what_happened_in_it(filled: TestClient) -> None:
    """P4: each run and each term of the stretch, with the run that reaches into it, and nothing else."""
    since, until_ = BEGAN + timedelta(minutes=25), BEGAN + timedelta(minutes=35)
    found = history(filled, since=ms(since), until=ms(until_))
    assert [run["due"] for run in found["runs"]] == [ms(until_) - 1000 * each for each in range(601)]
    assert [term["term"] for term in found["terms"]] == [4, 3]
    assert (found["runs_every"], found["skips"], found["problem"]) == (1, [], None)
    assert found["begins"] == ms(BEGAN)
    failed = [run for run in found["runs"] if run["outcome"] == "failed"]
    assert len(failed) == 6
    assert failed[0]["error"] == (HOSTILE * 20)[: history_cache.MAX_ERROR_LENGTH]


def test_a_run_that_goes_on_is_in_every_stretch_after_its_beginning(filled: TestClient) -> None:
    """The run of second 3000 was cut off when this leader began, two hours after it; it shows where it began."""
    due = BEGAN + timedelta(seconds=3000)
    (run,) = [run for run in history(filled, since=ms(due), until=ms(due))["runs"] if run["due"] == ms(due)]
    assert run["outcome"] == "interrupted"


def test_what_is_too_much_for_a_picture_is_thinned_and_said_so(filled: TestClient) -> None:
    """However long the stretch, about as many marks; what failed is kept beside them."""
    found = history(filled, since=0)
    assert found["runs_every"] == 4
    assert RUNS / 4 <= len(found["runs"]) <= history_cache.MAX_ROWS * 1.5
    assert sum(run["outcome"] == "failed" for run in found["runs"]) == 36
    assert found["skips_every"] == 2
    assert len(found["skips"]) == SKIPS / 2
    assert len(found["terms"]) == TERMS + 1


@pytest.mark.parametrize(
    ("since", "until_"),
    [(0, 0), (0, 1), (ms(BEGAN) + 9_000_000, ms(BEGAN) + 9_000_001), (5, 4), (0, 253_402_300_799_000)],
    ids=["the epoch", "before", "beyond", "upside down", "all time"],
)
def test_odd_stretches_have_plain_answers(filled: TestClient, since: int, until_: int) -> None:
    """No stretch, however odd, contains anything from outside of it."""
    found = history(filled, since=since, until=until_)
    assert found["problem"] is None
    assert bool(found["runs"]) == (until_ > 253_402_300_000_000)


@pytest.mark.parametrize("query", ["since=-1", "since=x", "until=253402300799001", "since=9223372036854775808"])
def test_what_cannot_be_asked_is_refused(filled: TestClient, query: str) -> None:
    assert filled.get(f"/leader/live/data?{query}").status_code == 422


def test_it_holds_the_document_and_when_it_was_told(filled: TestClient) -> None:
    """The document of ``/leader``, the time by the server's clock, and whether there are controls."""
    before = time.time() * 1000
    found = data(filled)
    assert before - 1 <= found["now"] <= time.time() * 1000 + 1
    assert found["controls"] is None
    assert found["pool"].keys() == filled.get("/leader").json().keys()
    assert found["pool"]["leader"]["pid"] == os.getpid()
    assert history(filled)["terms"][0]["pid"] == os.getpid()


def test_it_says_whether_there_are_controls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELECTION_ADMIN_TOKEN", "a token for tests")
    with client_of(Election(tmp_path / "pool", heartbeat=0.05)) as client:
        assert data(client)["controls"] == "token"


def test_what_means_harm_is_data(tmp_path: Path) -> None:
    """A hostile id arrives as it is, in JSON, which nothing takes for a page; half a character breaks nothing."""

    async def harm() -> None:
        raise ValueError(HOSTILE + "\ud800")

    election = Election(tmp_path / "pool", heartbeat=0.05)
    election.scheduled_job("date", id=HOSTILE)(harm)
    with client_of(election) as client:

        def failed() -> httpx2.Response | None:
            answer = client.get("/leader/live/data")
            return answer if [run for run in answer.json()["history"]["runs"] if run["outcome"] == "failed"] else None

        answer = until(failed, what="the run is told")
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.json()["history"]["runs"][0]["job"] == HOSTILE
        assert json.loads(answer.text)["history"]["last"][HOSTILE]["error"].startswith("ValueError: <img")


def test_many_who_look_cost_one_question(filled: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """P8: fifty viewers at once ask the ledger once for the same stretch."""
    asked: list[int] = []
    window = SqliteLedger.window

    async def counted(self: SqliteLedger, *arguments: Any) -> Any:
        asked.append(1)
        return await window(self, *arguments)

    monkeypatch.setattr(SqliteLedger, "window", counted)
    monkeypatch.setattr(history_cache, "MAX_AGE_S", 60.0)
    since = ms(BEGAN) + 12_345
    threads = [threading.Thread(target=history, args=(filled,), kwargs={"since": since}) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 1
    for other in range(3 * history_cache.MAX_CACHED):
        history(filled, since=since, until=since + other)
    history(filled, since=since)
    assert len(asked) == 1 + 3 * history_cache.MAX_CACHED + 1, "old answers are not kept for ever"


def test_a_ledger_that_does_not_answer_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P8: who leads is told, and that the ledger is silent."""
    with client_of(Election(tmp_path / "pool", heartbeat=0.05)) as client:
        until(lambda: client.get("/leader").status_code == 200)

        async def silent(*_: Any) -> Any:
            await asyncio.Event().wait()

        monkeypatch.setattr(SqliteLedger, "window", silent)
        monkeypatch.setattr(history_cache, "TIMEOUT_S", 0.05)
        found = data(client)
        assert found["pool"]["leader"]["pid"] == os.getpid()
        assert found["history"]["problem"] == "the ledger does not answer"
        assert found["history"]["runs"] == []


def test_a_ledger_that_cannot_be_read_is_told_with_the_reason(tmp_path: Path) -> None:
    """P8: the page goes on, says why it draws no runs, and draws them again when the ledger is back."""
    pool = tmp_path / "pool"
    with client_of(Election(pool, heartbeat=0.05)) as client:
        until(lambda: history(client)["terms"])
        (pool / "kept").mkdir()
        exchange(pool / "ledger.db", pool / "kept")
        until(lambda: "unable to open" in (history(client)["problem"] or ""))
        assert data(client)["pool"]["leader"]["pid"] == os.getpid()
        exchange(pool / "ledger.db", pool / "kept")
        until(lambda: history(client)["problem"] is None and history(client)["terms"])


def test_a_worker_that_takes_no_part_shows_the_page_and_says_so(tmp_path: Path) -> None:
    """docs/pitfalls.md#35: without the lifespan the page opens and tells why there is nothing to see; nothing is
    opened."""
    client = client_of(Election(tmp_path / "pool"))  # not entered: the lifespan does not run
    assert client.get("/leader/live").status_code == 200
    found = data(client)
    assert "lifespan did not run" in found["pool"]["problem"]
    assert (found["pool"]["leader"], found["history"]["runs"]) == (None, [])
    assert not (tmp_path / "pool").exists()


def test_the_latest_runs_of_a_few_jobs(filled: TestClient) -> None:
    """For the rows of the page that can be seen: number, outcome, begin and end, latest first."""

    def told() -> dict[str, Any] | None:
        return dict(filled.get("/leader/live/runs", params={"job": ["job", "nobody"]}).json()) or None

    found = until(told, what="the ledger answers in time")
    assert found["nobody"] == []
    runs = filled.get("/leader/runs", params={"job": "job", "limit": history_cache.MAX_CELLS}).json()["runs"]
    assert [row[:2] for row in found["job"]] == [[run["seq"], run["outcome"]] for run in runs]
    assert all(end - at == 5 for _, _, at, end in found["job"])
    many = {"job": [str(number) for number in range(41)]}
    assert filled.get("/leader/live/runs", params=many).status_code == 422
