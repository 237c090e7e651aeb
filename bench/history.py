"""Fast generator of a ledger with a long history of a healthy pool; ``verify`` accepts it."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

from apscheduler.triggers.interval import IntervalTrigger

from election.core.process import current_process
from election.engines.file.schema import migrate
from election.engines.sql.rows import to_us
from election.schedule.triggers import describe

JOBS = 100
EVERY = 25
"""Jobs, and seconds between two ticks of each: four a second, ten million in 29 days."""

TERM = 300_000
"""Runs of one term: a new leader each day."""

FAILS = 100_000
"""One run in so many has failed."""

START = datetime(2026, 1, 1, tzinfo=UTC)
"""Start of the jobs' schedules; their history begins later, so that it ends now."""


def begins(number: int) -> datetime:
    """The ticks of the jobs are spread evenly."""
    return START + timedelta(seconds=number * EVERY / JOBS)


def job_id(number: int) -> str:
    return f"job-{number:02}"


def write_history(path: Path, runs: int) -> None:
    """Write a ledger at ``path`` with so many runs, the last of them now; each 2 ms late, with a duration of 3 ms."""
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=OFF", "cache_size=-200000"):
        connection.execute(f"PRAGMA {pragma}")
    migrate(connection)
    rounds = runs // JOBS
    first = START + timedelta(seconds=EVERY) * ((datetime.now(UTC) - START) // timedelta(seconds=EVERY) - rounds)
    index = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'one_claim_per_tick'").fetchone()[0]
    connection.execute("BEGIN")
    connection.execute("DROP INDEX one_claim_per_tick")
    names = {"first": to_us(first), "runs": rounds * JOBS}
    due = f":first + n / {JOBS} * {EVERY}000000 + n % {JOBS} * {EVERY * 1_000_000 // JOBS}"
    connection.execute(
        "INSERT INTO runs (job_id, due, request, term, claimed_at, ended_at, outcome)"
        " WITH RECURSIVE number(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < :runs)"
        f" SELECT printf('job-%02d', n % {JOBS}), {due}, 0, 1 + n / {TERM}, {due} + 2000, {due} + 5000,"
        f" CASE WHEN n % {FAILS} = {FAILS - 1} THEN 'failed' ELSE 'succeeded' END FROM number",
        names,
    )
    connection.execute(index)
    _write_terms(connection, first, rounds * JOBS)
    _write_jobs(connection, first, first + timedelta(seconds=EVERY) * (rounds - 1))
    _write_totals(connection)
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _write_terms(connection: sqlite3.Connection, first: datetime, runs: int) -> None:
    me = current_process()
    for number in range(-(-runs // TERM)):
        began = to_us(first) + number * TERM // JOBS * EVERY * 1_000_000 - 500_000
        connection.execute(
            "INSERT INTO terms (term, pid, host, boot_id, began_at, began_ns, reason, takeover_ms, ended_at, ended_ns,"
            " standing) VALUES (?, 1, ?, 'an earlier boot', ?, ?, 'resigned', 4.0, ?, ?, 'resigned')",
            (number + 1, me.host, began, number * 1_000_000, began + 1000, number * 1_000_000 + 1000),
        )


def _write_jobs(connection: sqlite3.Connection, first: datetime, last: datetime) -> None:
    for number in range(JOBS):
        trigger = json.dumps(
            describe(IntervalTrigger(seconds=EVERY, start_date=begins(number), timezone=UTC), first, True)
        )
        since, until = (to_us(each + timedelta(seconds=number * EVERY / JOBS)) for each in (first, last))
        connection.execute(
            "INSERT INTO jobs (id, trigger, scheduled_since, settled_until) VALUES (?, ?, ?, ?)",
            (job_id(number), trigger, since - 1, until),
        )
        connection.execute(
            "INSERT INTO epochs (job_id, since, anchor, trigger) VALUES (?, ?, ?, ?)",
            (job_id(number), since - 1, since - 1, trigger),
        )


def _write_totals(connection: sqlite3.Connection) -> None:
    """Write the counters that the triggers would have counted when a run is settled."""
    connection.execute("INSERT INTO totals SELECT 'runs', job_id, outcome, count(*), 0 FROM runs GROUP BY 2, 3")
    for what, seconds in {"lateness": 0.002, "duration": 0.003}.items():
        connection.execute(
            "INSERT INTO totals SELECT ?, job_id, '0.005', sum(count), sum(count) * ? FROM totals WHERE what = 'runs'"
            " GROUP BY 2",
            (what, seconds),
        )
