"""``GET /metrics``: worked out from record and ledger, and so the same whichever worker answers."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from election import ConfigurationError, Election
from election.core.term import Reason
from election.engines.file.ledger import SqliteLedger
from election.schedule.history import BOUNDS, Histogram, Totals
from election.schedule.model import JobState, Outcome, SkipReason
from election.testing import always_leader
from election.web.collector import Figures, PoolCollector, exposition, overdue_s
from election.web.models import Leader
from tests.schedule.making import NOW, make_job
from tests.support.pool import Worker, WorkerPool
from tests.support.waiting import until

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]

OF_THE_WORKER = "election_leader_heartbeat_age_seconds"
"""The one figure that depends on who answers, and when."""


def samples(text: str) -> Samples:
    """Each sample by its name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(worker: Worker) -> Samples:
    answer = worker.request("GET", "/metrics")
    assert answer.status_code == 200, answer.text
    return samples(answer.text)


def of_the_pool(worker: Worker) -> Samples:
    return {key: value for key, value in scraped(worker).items() if key[0] != OF_THE_WORKER}


def value(found: Samples, name: str, **labels: str) -> float:
    return found.get((f"election_{name}", tuple(sorted(labels.items()))), 0)


def counters(found: Samples) -> Samples:
    return {key: value for key, value in found.items() if key[0].endswith(("_total", "_count", "_sum", "_bucket"))}


@pytest.fixture
def four(fresh: WorkerPool) -> Iterator[WorkerPool]:
    """A pool of four workers in which runs have ended, a leader was killed and the next one resigned."""
    fresh.start(4)
    until(lambda: len(fresh.facts("often")) >= 3)
    fresh.kill_leader()
    survivor = fresh.leader(after=1)
    survivor.post("/leader/resign")
    fresh.leader(after=2)
    fresh.start(1)
    yield fresh


def test_the_metrics_of_a_pool(four: WorkerPool) -> None:
    """Equal on every worker at rest, and a takeover takes nothing away from a counter."""
    check_at_rest(four)
    four.leader().post("/leader/jobs/often/resume")
    runs = len(four.facts("often"))
    until(lambda: len(four.facts("often")) > runs, what="jobs run again")
    check_takeover(four)


def check_at_rest(four: WorkerPool) -> None:
    runs = len(four.facts("often"))
    until(lambda: len(four.facts("often")) > runs, what="the third leader runs jobs")
    four.leader().post("/leader/jobs/often/pause")
    four.leader().post("/leader/jobs/now and/then/run")
    until(lambda: four.facts("now and/then"))
    until(lambda: not four.leader().document("/leader/runs?outcome=running")["runs"], what="no run is open")
    until(lambda: all(term["takeover_ms"] for term in four.leader().document("/leader/terms")["terms"]))

    workers = four.alive
    assert len(workers) == 4
    until(
        lambda: all(of_the_pool(worker) == of_the_pool(workers[0]) for worker in workers),
        what=lambda: [of_the_pool(worker).items() ^ of_the_pool(workers[0]).items() for worker in workers],
    )
    found = scraped(workers[0])
    for worker in workers:
        assert 0 <= value(scraped(worker), "leader_heartbeat_age_seconds") < 3

    assert value(found, "led") == value(found, "leader_responsive") == value(found, "ledger_readable") == 1
    assert value(found, "leader_pid") == four.leader().pid
    assert value(found, "term") == 3
    assert value(found, "workers") == 4
    takeovers = {reason: value(found, "takeovers_total", reason=reason) for reason in Reason}
    assert takeovers == {"started": 1, "died": 1, "resigned": 1, "fenced": 0, "lost": 0}
    assert 0 < value(found, "takeover_seconds_sum") < 30
    assert value(found, "takeover_seconds_count") == value(found, "takeover_seconds_bucket", le="+Inf") == 3
    assert value(found, "vacant_seconds_total", reason="died") > 0
    assert value(found, "vacant_seconds_total", reason="started") == 0

    history = four.leader().document("/leader/runs?job=often&limit=1000")["runs"]
    for outcome in ("succeeded", "interrupted"):
        counted = len([run for run in history if run["outcome"] == outcome])
        assert value(found, "runs_total", job_id="often", outcome=outcome) == counted
    assert value(found, "run_lateness_seconds_count", job_id="often") == len(history)
    assert value(found, "runs_total", job_id="now and/then", outcome="succeeded") == 1
    assert ("election_run_lateness_seconds_count", (("job_id", "now and/then"),)) not in found, "nobody had planned it"
    skipped = [skip for skip in four.leader().document("/leader/skips?limit=1000")["skips"] if skip["reason"] == "down"]
    assert value(found, "ticks_skipped_total", job_id="often", reason="down") == sum(skip["count"] for skip in skipped)


def check_takeover(four: WorkerPool) -> None:
    worker = four.follower()
    before = counters(scraped(worker))
    term = four.leader().document()["leader"]["term"]
    four.kill_leader()
    four.leader(after=term)
    after = counters(scraped(worker))
    assert before
    assert {key: (value, after.get(key)) for key, value in before.items() if after.get(key, 0) < value} == {}


# --- one worker ------------------------------------------------------------------------------------------------------


def application(pool: Path) -> tuple[FastAPI, Election]:
    election = Election(pool)
    app = FastAPI(lifespan=election.lifespan)
    app.include_router(election.metrics)
    return app, election


def test_a_ledger_that_cannot_be_read_leaves_the_leader_known(tmp_path: Path) -> None:
    app, _ = application(tmp_path / "pool")
    with TestClient(app) as client:
        until(lambda: samples(client.get("/metrics").text)["election_led", ()] == 1)
        until(lambda: ("election_takeovers_total", (("reason", "started"),)) in samples(client.get("/metrics").text))
        connection = sqlite3.connect(tmp_path / "pool/ledger.db")
        connection.execute("ALTER TABLE totals RENAME TO elsewhere")
        connection.close()
        found = samples(client.get("/metrics").text)
        assert found["election_ledger_readable", ()] == 0
        assert found["election_led", ()] == 1
        assert [key for key in found if "takeovers" in key[0]] == []


def test_a_ledger_that_does_not_answer_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P8: a scrape would fail as a whole, and an alert on ``election_led`` could not fire."""
    app, _ = application(tmp_path / "pool")
    with TestClient(app) as client:
        until(lambda: samples(client.get("/metrics").text)["election_led", ()] == 1)
        asked: list[object] = []

        async def silent(*_: Any) -> Any:
            asked.append(None)
            await asyncio.Event().wait()

        monkeypatch.setattr(SqliteLedger, "totals", silent)
        monkeypatch.setattr("election.web.metrics.TIMEOUT_S", 0.05)
        for _ in range(2):
            found = samples(client.get("/metrics").text)
            assert (found["election_ledger_readable", ()], found["election_led", ()]) == (0, 1)
        assert len(asked) == 1, "scrapes share the read that is under way"


def test_in_memory_too(tmp_path: Path) -> None:
    app, election = application(tmp_path / "pool")
    with always_leader(election), TestClient(app) as client:
        until(lambda: value(samples(client.get("/metrics").text), "takeovers_total", reason="started") == 1)


def test_an_election_that_was_not_started_has_none(tmp_path: Path) -> None:
    app, _ = application(tmp_path / "pool")
    answer = TestClient(app).get("/metrics")  # without its lifespan
    assert answer.status_code == 503
    assert "has not been started" in answer.json()["detail"]
    assert not (tmp_path / "pool").exists()


def test_without_the_extra_there_is_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "election.web.collector")
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'fastapi-election\[metrics\]'"):
        _ = Election(tmp_path / "pool").metrics


# --- the format ------------------------------------------------------------------------------------------------------

LEADER = Leader(pid=7, host="h", term=3, elected_at=NOW, heartbeat_age_s=4.2, responsive=False, queued=3)
TOTALS = Totals(
    jobs=["a job", "new"],
    runs={("a job", Outcome.FAILED): 2, ('"b"\n', Outcome.SUCCEEDED): 1},
    skips={("a job", SkipReason.DOWN): 5},
    lateness={"a job": Histogram([1, 0, 2, *[0] * (len(BOUNDS) - 3), 4], 9000.5)},
    durations={},
    terms={Reason.DIED: 2},
    takeover=Histogram([0] * (len(BOUNDS) + 1), 0.0),
    vacant_s={Reason.DIED: 1.25},
    last_success={"a job": NOW - timedelta(minutes=10)},
    settled_until=NOW + timedelta(hours=1),
)

HOURLY = make_job("interval", hours=1, start_date=NOW - timedelta(days=1))


def state(job_id: str, **more: Any) -> JobState:
    since = NOW - timedelta(days=2)
    return JobState(job_id, HOURLY.schedule, scheduled_since=since, settled_until=NOW, **more)


FIGURES = Figures(
    TOTALS, [state("a job"), state("new", paused_at=NOW), state("lost", broken="no")], NOW - timedelta(seconds=7)
)


@pytest.mark.parametrize(
    ("last_success", "overdue"),
    [
        (None, 86400.0),  # the first tick of all
        (timedelta(minutes=-10), 0.0),
        (timedelta(minutes=-60), 0.0),  # by the tick that falls due at this moment
        (timedelta(minutes=-150), 7200.0),
    ],
)
def test_a_job_is_overdue_since_the_first_tick_after_its_latest_success(
    last_success: timedelta | None, overdue: float
) -> None:
    success = None if last_success is None else NOW + last_success
    assert overdue_s(state("job"), HOURLY.trigger, success, NOW) == overdue
    for idle in (state("job", paused_at=NOW), state("job", broken="no"), state("job", retired_at=NOW)):
        assert overdue_s(idle, HOURLY.trigger, success, NOW) == 0
    changed = replace(state("job"), scheduled_since=NOW - timedelta(minutes=1))
    assert overdue_s(changed, HOURLY.trigger, success, NOW) == 0, "another schedule owes what comes after it"


def test_the_figures_of_jobs() -> None:
    found = samples(exposition(PoolCollector(("var/pool", "file"), LEADER, 3, 4, FIGURES, NOW), "")[0].decode())
    assert value(found, "pool_info", pool="var/pool", engine="file") == 1
    assert value(found, "job_last_success_timestamp_seconds", job_id="a job") == NOW.timestamp() - 600
    assert value(found, "job_next_run_timestamp_seconds", job_id="a job") == NOW.timestamp() + 3600
    assert [value(found, "job_paused", job_id=job) for job in ("a job", "new", "lost")] == [0, 1, 0]
    assert [value(found, "job_broken", job_id=job) for job in ("a job", "new", "lost")] == [0, 0, 1]
    assert [value(found, "job_overdue_seconds", job_id=job) for job in ("a job", "new", "lost")] == [0, 0, 0]
    assert ("election_job_next_run_timestamp_seconds", (("job_id", "new"),)) not in found, "it is paused"
    assert value(found, "oldest_run_seconds") == 7


def test_the_figures_in_the_format_of_prometheus() -> None:
    body, content_type = exposition(PoolCollector(("var/pool", "file"), LEADER, 3, 4, FIGURES, NOW), "")
    assert content_type.startswith("text/plain")
    found = samples(body.decode())
    assert value(found, "led") == 1
    assert value(found, "leader_responsive") == 0
    assert value(found, "leader_queued_runs") == 3
    assert value(found, "settled_ahead_seconds") == 3600
    assert value(found, "leader_heartbeat_age_seconds") == 4.2
    assert value(found, "runs_total", job_id='"b"\n', outcome="succeeded") == 1
    buckets = [value(found, "run_lateness_seconds_bucket", job_id="a job", le=str(bound)) for bound in BOUNDS]
    assert buckets == [1, 1, *[3] * (len(BOUNDS) - 2)], "cumulated"
    assert value(found, "run_lateness_seconds_bucket", job_id="a job", le="+Inf") == 7
    assert value(found, "run_lateness_seconds_sum", job_id="a job") == 9000.5
    assert value(found, "vacant_seconds_total", reason="died") == 1.25
    for reason in SkipReason:  # from the beginning, or the first one would be no increase
        assert ("election_ticks_skipped_total", (("job_id", "new"), ("reason", reason))) in found


def test_and_in_that_of_openmetrics_for_who_asks_for_it() -> None:
    body, content_type = exposition(
        PoolCollector(("var/pool", "file"), LEADER, 3, 4, FIGURES, NOW), "application/openmetrics-text;version=1.0.0"
    )
    assert content_type.startswith("application/openmetrics-text")
    text = body.decode()
    assert text.endswith("# EOF\n")
    assert {family.name for family in openmetrics.text_string_to_metric_families(text)} >= {"election_runs"}


def test_without_a_leader_nothing_is_said_of_one() -> None:
    found = samples(exposition(PoolCollector(("var/pool", "file"), None, 3, 4, None, NOW), "")[0].decode())
    assert found == {
        ("election_pool_info", (("engine", "file"), ("pool", "var/pool"))): 1,
        ("election_led", ()): 0,
        ("election_term", ()): 3,
        ("election_workers", ()): 4,
        ("election_ledger_readable", ()): 0,
    }
