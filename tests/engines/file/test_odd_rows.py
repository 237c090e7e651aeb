"""Rows that no worker of this version writes: each is a broken job or left out, and all others go on (P10)."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from election.engines.file.ledger import SqliteLedger
from election.engines.redis import rows as redis_rows
from election.engines.sql.rows import readable
from election.schedule.ledger_reader import LedgerReader
from election.schedule.model import NewJob, StoredJob
from tests.engines.odd_rows import failures, fill, in_turn
from tests.schedule.making import at, make_job, make_term, process

pytestmark = pytest.mark.anyio

NOT_TEXT = ("pid", "from_pid", "takeover_ms", "began_at", "began_ns", "ended_at", "ended_ns")
"""Columns of a term that have a number or none."""

REMEMBER = StoredJob("tests.schedule.stored_functions:remember", {"value": 1}, {})


def copy_with(**changes: str) -> str:
    """Statement that adds a copy of the job with other values, in SQL."""
    columns = ["id", "trigger", "scheduled_since", "settled_until", "func", "kwargs", "options", "next_due"]
    values = [changes.get(column, column) for column in columns]
    return f"INSERT INTO jobs ({', '.join(columns)}) SELECT {', '.join(values)} FROM jobs WHERE id = 'good'"


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A ledger with one job."""
    path = tmp_path / "ledger.db"
    ledger = SqliteLedger(str(path))
    await ledger.begin_term(make_term(1), process())
    await ledger.store_jobs([NewJob("good", make_job("interval", seconds=5).schedule, REMEMBER)])
    await ledger.close()
    return path


def execute(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        (copy_with(id="CAST(x'61ff62' AS TEXT)"), "bytes that are no text"),
        (copy_with(id="'odd'", trigger="CAST(x'ff' AS TEXT)"), "bytes that are no text"),
        (copy_with(id="x'61ff62'"), "bytes that are no text"),
        (copy_with(id="'odd'", settled_until="1e19"), "out of range"),
        (copy_with(id="'odd'", settled_until=f"{2**63 - 1}"), "out of range"),
        (copy_with(id="'odd'", scheduled_since="'many'"), "cannot be read"),
        (copy_with(id="'odd'", options="'{'"), "cannot be read"),
        (copy_with(id="'odd'", options="'[]'"), "there is no object"),
        (copy_with(id="'odd'", kwargs="'5'"), "there is no object"),
        (copy_with(id="'odd'", kwargs="'null'"), "there is no object"),
    ],
)
async def test_pitfall_63_a_row_that_cannot_be_read_is_a_broken_job(path: Path, statement: str, why: str) -> None:
    execute(path, statement)
    ledger = SqliteLedger(str(path))
    state = await ledger.begin_term(make_term(2, elected_at=at(5)), process())
    reads: list[Callable[[LedgerReader], object]] = [LedgerReader.jobs, LedgerReader.search_jobs]
    for jobs in [state.jobs, *[await asyncio.wait_for(read(ledger), 30) for read in reads]]:  # type: ignore[arg-type]
        [odd] = [job for job in jobs if job.id != "good"]
        assert why in (odd.broken or "")
        assert odd.id.isprintable()
        assert [job.broken for job in jobs if job.id == "good"] == [None]
    await ledger.close()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO requests (action, job_id, requested_at) VALUES ('dance', 'good', 1)",
        "INSERT INTO requests (action, job_id, requested_at, kwargs) VALUES ('run', 'good', 1, '{')",
        "INSERT INTO requests (action, job_id, requested_at, kwargs) VALUES ('run', 'good', 1, '[1]')",
        "INSERT INTO requests (action, requested_at) VALUES ('run', 1)",
        "INSERT INTO requests (action, job_id, requested_at) VALUES ('cancel', 'good', 1)",
        "INSERT INTO requests (action, job_id, requested_at, kwargs)"
        """ VALUES ('cancel', 'good', 1, '{"request": 0}')""",
        f"INSERT INTO runs (job_id, due, request, term, claimed_at) VALUES ('good', {2**63 - 1}, 0, 1, 1)",
        "INSERT INTO runs (job_id, due, request, term, claimed_at, attempts) VALUES ('good', 5, 0, 1, 5, '{')",
    ],
)
async def test_a_request_or_a_run_of_a_newer_version_is_left_out(
    path: Path, statement: str, caplog: pytest.LogCaptureFixture
) -> None:
    execute(path, statement)
    ledger = SqliteLedger(str(path))
    with caplog.at_level(logging.ERROR, "election"):
        state = await ledger.begin_term(make_term(2, elected_at=at(5)), process())
    assert (state.requests, state.open_runs, [job.broken for job in state.jobs]) == ([], [], [None])
    assert "cannot be read, and is left out" in caplog.text
    await ledger.close()


def test_the_same_in_redis(caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"id": str(number), "action": action, "job_id": "good", "term": "", "at": "1"}
            for number, action in enumerate(("run", "dance", "run"))]  # fmt: skip
    assert [request.id for request in readable(redis_rows.request, rows * 2)] == [0, 2, 0, 2]
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "statement",
    [
        f"INSERT INTO runs (job_id, due, request, term, claimed_at) VALUES ('good', {2**63 - 1}, 0, 1, 1)",
        "INSERT INTO runs (job_id, due, request, term, claimed_at, attempts) VALUES ('good', 5, 0, 1, 5, '{')",
        "INSERT INTO runs (job_id, due, request, term, claimed_at, ended_at, outcome)"
        " VALUES ('good', 5, 0, 1, 5, 6, 'danced')",
        "INSERT INTO skips (job_id, first_due, last_due, count, reason, skipped_at, request, term)"
        " VALUES ('good', 5, 5, 1, 'tired', 5, 0, 1)",
        "INSERT INTO requests (action, job_id, requested_at) VALUES ('dance', 'good', 1)",
        "INSERT INTO audit (changed_at, changed_by, action) VALUES (5, 'ann', 'dance')",
        "UPDATE terms SET standing = 'asleep'",
        *[f"UPDATE terms SET {column} = {value}" for column, value in product(NOT_TEXT, ("'x'", "x'ff'"))],
        "UPDATE terms SET host = x'ff'",
        "UPDATE terms SET takeover_ms = 9e999",
        f"UPDATE terms SET began_at = {10**18}",
    ],
)
async def test_p8_the_history_is_shown_without_it(path: Path, statement: str) -> None:
    execute(path, statement)
    ledger = LedgerReader(SqliteLedger(str(path)).store)
    pages = [ledger.runs(), ledger.runs(outcome="running"), ledger.skips(), ledger.terms(), ledger.audit_trail()]
    for page in pages:
        assert len(await page) <= 1
    assert "terms" not in statement or await ledger.terms() == []
    await ledger.request_row(1)
    window = await ledger.window(at(-60), at(60), 100)
    assert "terms" not in statement or window.terms == []
    assert [job.id for job in (await ledger.overview()).stored] == ["good"]
    await ledger.close()


async def test_a_page_is_filled_in_spite_of_it(path: Path) -> None:
    """A page that is not full ends the history for whoever reads it page by page."""
    for due in range(1, 6):
        attempts = "{" if due in {3, 5} else "[]"
        columns = "INSERT INTO runs (job_id, due, request, term, claimed_at, attempts) VALUES"
        execute(path, f"{columns} ('good', {due}, 0, 1, {due}, '{attempts}')")
    ledger = LedgerReader(SqliteLedger(str(path)).store)
    first = await ledger.runs(limit=2)
    assert [run.seq for run in first] == [4, 2]
    assert [run.seq for run in await ledger.runs(before=2, limit=2)] == [1]
    await ledger.close()


@pytest.mark.parametrize("statement", ["DELETE FROM place", "UPDATE place SET copied_at = 'once', copied_term = 'one'"])
async def test_a_place_that_cannot_be_read_keeps_nobody_from_leading(path: Path, statement: str) -> None:
    execute(path, statement)
    ledger = SqliteLedger(str(path))
    state = await ledger.begin_term(make_term(2, elected_at=at(5)), process())
    assert [job.id for job in state.jobs] == ["good"]
    await ledger.close()


async def test_pitfall_63_an_id_that_is_no_text_among_many_jobs(path: Path) -> None:
    """With so many, the leader reads most of them later, by their ids."""
    ledger = SqliteLedger(str(path))
    more = [NewJob(f"good-{number}", make_job("interval", seconds=5).schedule, REMEMBER) for number in range(120)]
    await ledger.store_jobs(more)
    execute(path, copy_with(id="CAST(x'61ff62' AS TEXT)", next_due="5"))
    execute(path, copy_with(id="CAST(x'ff' AS TEXT)", next_due=f"{2**62}"))
    state = await ledger.begin_term(make_term(2, elected_at=at(5)), process())
    ids = [*[job.id for job in state.jobs], *state.rest]
    assert {"good", *[job.id for job in more]} <= set(ids)
    assert all(job_id.isprintable() for job_id in ids)
    assert await ledger.find_jobs(list(state.rest))
    totals = await ledger.totals()
    assert all(job_id.isprintable() for job_id in totals.jobs)
    await ledger.close()


LARGEST = f"{2**63 - 1}"


@pytest.mark.extended
async def test_pitfall_63_no_value_stops_the_next_leader_and_another_job(tmp_path: Path) -> None:
    """Every value of every row, one after the other."""
    path = tmp_path / "whole.db"
    ledger = SqliteLedger(str(path))
    await fill(ledger)
    await ledger.close()
    tried, failed = 0, list[str]()
    for number, (table, column, row, odd) in enumerate(in_turn(every_value(path), ["'x'", "x'ff'", "9e999", LARGEST])):
        if column in {"seq", "term"} and column in row and odd == LARGEST:
            continue  # after the last number that a database can give out there is none
        copy = tmp_path / f"{number}.db"
        shutil.copyfile(path, copy)
        try:
            execute(copy, f"UPDATE {table} SET {column} = {odd} WHERE {row}")
        except sqlite3.IntegrityError:
            continue  # the database refuses the value
        tried += 1
        failed += await failures(SqliteLedger(str(copy)), what=f"{odd} in {table}.{column}, where {row}")
    assert tried > 250
    assert not failed, "\n".join(failed)


def every_value(path: Path) -> list[tuple[str, str, str]]:
    """Tables with a column and a condition for a row each; without those of the job ``steady``."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        found = []
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
        for (table,) in tables.fetchall():
            columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
            keys = [column[1] for column in columns if column[5]] or ["rowid"]
            for values in connection.execute(f"SELECT {', '.join(map('quote({})'.format, keys))} FROM {table}"):
                row = " AND ".join(f"{key} = {value}" for key, value in zip(keys, values, strict=True))
                if "steady" not in row:
                    found += [(table, column[1], row) for column in columns]
    connection.close()
    return found


@pytest.mark.parametrize("odd", ["'x'", "x'ff'", f"{10**18}", f"{-(10**18)}"])
async def test_a_term_without_a_time_hides_no_other_one(path: Path, odd: str) -> None:
    """The terms of a time range are found by bisection."""
    ledger = SqliteLedger(str(path))
    for term in range(2, 10):
        await ledger.begin_term(make_term(term, elected_at=at(term)), process())
    await ledger.close()
    for numbers in ([1], [5], [9], [4, 5, 6], [1, 3, 5, 7, 9]):
        which = f"WHERE term IN ({', '.join(map(str, numbers))})"
        execute(path, "CREATE TABLE kept AS SELECT term, began_at FROM terms")
        execute(path, f"UPDATE terms SET began_at = {odd} {which}")
        reader = LedgerReader(SqliteLedger(str(path)).store)
        for since, until in ((-60, 60), (3.5, 7.5), (8, 8.5)):
            window = await reader.window(at(since), at(until), 100)
            begun = {term.term for term in window.terms}
            assert begun >= {term for term in range(2, 10) if since <= term <= until} - {*numbers}
            assert len(begun - {term for term in range(1, 10) if since <= term <= until}) <= 1, "the one before"
        assert window.begins == (None if 1 in numbers else at(0))
        await reader.close()
        execute(path, "UPDATE terms SET began_at = (SELECT began_at FROM kept WHERE kept.term = terms.term)")
        execute(path, "DROP TABLE kept")


@pytest.mark.parametrize(
    "counter",
    [
        "'runs', 'good', 'danced', 1, 0",
        "'runs', 'good', 'failed', 'x', 0",
        "'skips', 'good', 'tired', 1, 0",
        "'lateness', 'good', '0.123', 1, 0",
        "'duration', 'good', '0.5', 1, 'x'",
        "'duration', 'good', '0.5', x'ff', 9e999",
        "'takeover', '', 'soon', 1, 0",
        "'terms', '', 'moved', 1, 0",
        f"'success', 'good', 'latest', {10**18}, 0",
        "'success', 'good', 'latest', 'x', 0",
        "'naps', 'good', 'long', 1, 0",
    ],
)
async def test_p8_a_counter_that_cannot_be_read_is_left_out(path: Path, counter: str) -> None:
    """In a rolling deploy, a newer worker may count what an older one does not know."""
    reader = LedgerReader(SqliteLedger(str(path)).store)
    before = await reader.totals()
    execute(path, f"INSERT INTO totals (what, job_id, label, count, total) VALUES ({counter})")
    assert await reader.totals() == before
    await reader.close()


async def test_a_counter_of_a_newer_version_is_logged_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    execute(path, "INSERT INTO totals VALUES ('skips', 'good', 'weary', 1, 0)")
    reader = LedgerReader(SqliteLedger(str(path)).store)
    with caplog.at_level(logging.ERROR, "election"):
        for _ in range(3):
            await reader.totals()
            execute(path, "UPDATE totals SET count = count + 1")
    assert ["weary" in record.getMessage() for record in caplog.records] == [True]
    await reader.close()


@pytest.mark.parametrize("odd", ["'x'", "x'ff'", f"{10**18}", "9e999", f"{-(10**18)}"])
async def test_p8_the_latest_settled_time_is_that_of_the_jobs_that_have_one(path: Path, odd: str) -> None:
    reader = LedgerReader(SqliteLedger(str(path)).store)
    before = await reader.totals()
    assert before.settled_until is not None
    execute(path, copy_with(id="'odd'", settled_until=odd))
    assert (await reader.totals()).settled_until == before.settled_until
    execute(path, "DELETE FROM jobs WHERE id = 'good'")
    assert (await reader.totals()).settled_until is None
    await reader.close()
