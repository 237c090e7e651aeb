"""Counts of a day and of a week, by period: ``GET /leader/live/counts``."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from election import Election
from election.core.errors import LedgerError
from election.schedule import history
from election.schedule.model import Outcome
from election.web import history_counts
from tests.support.past import write_past
from tests.support.waiting import until

NOW = datetime.now(UTC)
RUNS = [
    (NOW - timedelta(minutes=10 + 7 * number), Outcome.FAILED if number % 50 == 49 else Outcome.SUCCEEDED)
    for number in range(1200)
][::-1]
"""A run each seven minutes for almost six days; each fiftieth failed."""

SKIPS = [NOW - timedelta(hours=30), NOW - timedelta(hours=2)]


@contextmanager
def served(pool: Path) -> Iterator[TestClient]:
    """A worker that leads, after that past."""
    asyncio.run(write_past(pool, "report", NOW - timedelta(days=7), RUNS, SKIPS))
    election = Election(pool, heartbeat=0.05)
    app = FastAPI(lifespan=election.lifespan)
    app.include_router(election.router)
    with TestClient(app) as client:
        until(lambda: client.get("/readyz").status_code == 404 and client.get("/leader").status_code == 200)
        yield client


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with served(tmp_path_factory.mktemp("past") / "pool") as client:
        yield client


def counted(client: TestClient, days: int) -> dict[str, Any]:
    def complete() -> dict[str, Any] | None:
        answer = client.get("/leader/live/counts", params={"days": days})
        assert answer.status_code == 200, answer.text
        found = dict(answer.json())
        return found if found["complete"] else None

    return until(complete, what="all has been counted")


def expected(begin: datetime, step: timedelta) -> Counter[str]:
    counts = Counter(str(outcome) for at, outcome in RUNS if begin <= at < begin + step)
    counts["skipped"] += sum(begin <= at < begin + step for at in SKIPS)
    return +counts


@pytest.mark.parametrize(("days", "periods", "hours"), [(1, 24, 1), (7, 28, 6)])
@pytest.mark.parametrize("most", [history.MAX_COUNTED, 3])
def test_each_period_has_its_counts(
    client: TestClient, days: int, periods: int, hours: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it has too many rows to be counted at once."""
    monkeypatch.setattr("election.engines.sql.queries.MAX_COUNTED", most)
    monkeypatch.setattr(history_counts, "MAX_AGE_S", 0.0)
    found = counted(client, days)
    step = timedelta(hours=hours)
    assert found["step"] == step / timedelta(milliseconds=1)
    assert len(found["periods"]) == periods
    begin = datetime.fromtimestamp(found["from"] / 1000, UTC)
    assert timedelta() <= begin + periods * step - datetime.now(UTC) <= step + timedelta(minutes=1), "up to now"
    for number, counts in enumerate(found["periods"]):
        assert {kind: count for kind, count in counts.items() if count} == expected(begin + number * step, step)


def test_a_period_that_is_over_is_counted_once(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    counted(client, 7)
    asked: list[datetime] = []
    from election.engines.file.ledger import SqliteLedger

    window = SqliteLedger.window

    async def noted(self: SqliteLedger, since: datetime, *arguments: Any) -> Any:
        asked.append(since)
        return await window(self, since, *arguments)

    monkeypatch.setattr(SqliteLedger, "window", noted)
    monkeypatch.setattr(history_counts, "MAX_AGE_S", 0.0)
    counted(client, 7)
    assert 1 <= len(asked) <= 2, "the one that lasts, and perhaps the one before"


def test_a_ledger_that_cannot_be_read_is_told(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from election.engines.file.ledger import SqliteLedger

    async def broken(*_: object) -> Any:
        raise LedgerError("the disk is gone")

    monkeypatch.setattr(SqliteLedger, "window", broken)
    monkeypatch.setattr(history_counts, "MAX_AGE_S", 0.0)
    found = client.get("/leader/live/counts?days=1").json()
    assert (found["complete"], found["problem"]) == (False, "the disk is gone")


def test_a_ledger_that_is_slow_answers_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from election.engines.file.ledger import SqliteLedger

    window = SqliteLedger.window
    may_go_on, asked = asyncio.Event(), 0

    async def slow(self: SqliteLedger, *arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked > 5:
            await may_go_on.wait()
        return await window(self, *arguments)

    with served(tmp_path / "pool") as client:
        monkeypatch.setattr(SqliteLedger, "window", slow)
        monkeypatch.setattr(history_counts, "TIMEOUT_S", 0.05)
        found = client.get("/leader/live/counts?days=1").json()
        assert (found["complete"], found["problem"]) == (False, None)
        until(lambda: client.get("/leader/live/counts?days=1").json()["periods"][-5:].count(None) == 0)
        assert client.get("/leader/live/counts?days=1").json()["periods"][:-5] == [None] * 19
        client.portal.call(may_go_on.set)  # type: ignore[union-attr]
        assert counted(client, 1)["periods"].count(None) == 0


@pytest.mark.parametrize("days", ["", "2", "x", "-1"])
def test_other_lengths_are_refused(client: TestClient, days: str) -> None:
    assert client.get(f"/leader/live/counts?days={days}").status_code == 422


def test_a_worker_that_takes_no_part_says_so(tmp_path: Path) -> None:
    app = FastAPI()
    app.include_router(Election(tmp_path / "pool").router)
    answer = TestClient(app).get("/leader/live/counts?days=1")
    assert (answer.status_code, answer.json()["detail"][:8]) == (503, "this Ele")
