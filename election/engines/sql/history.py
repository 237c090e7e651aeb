"""Questions about the past, and how things stand: reads only."""

from __future__ import annotations

import json
from datetime import datetime

from election.schedule.history import Accounts, Epoch, OddClaim, RunRow, SkipRow, TermRow
from election.schedule.model import JobState, OpenRun, State, Tick

from .database import Connection, Cursor
from .rows import (
    JOB_COLUMNS,
    RUN_COLUMNS,
    SKIP_COLUMNS,
    TERM_COLUMNS,
    job_state,
    open_run,
    request,
    run_row,
    skip_row,
    term_row,
    to_time,
    to_us,
)


def state(connection: Connection) -> State:
    """All that a leader needs at the start of its term."""
    requests = connection.execute("SELECT * FROM requests WHERE done_at IS NULL ORDER BY id")
    return State(jobs(connection), [request(row) for row in requests], open_runs(connection))


def data_version(connection: Connection) -> int:
    """Changes when somebody else has written, and only then: the cheapest question there is."""
    return int(connection.execute(connection.dialect.version).fetchone()[0])


def open_runs(connection: Connection) -> list[OpenRun]:
    rows = connection.execute(  # "+": SQLite would rather read every run than put the few of an index in order
        "SELECT job_id, due, request, term, attempt FROM runs WHERE outcome IS NULL ORDER BY +seq"
    )
    return [open_run(row) for row in rows]


def jobs(connection: Connection) -> list[JobState]:
    return [job_state(row) for row in connection.execute(f"SELECT {JOB_COLUMNS} FROM jobs ORDER BY id")]


def job(connection: Connection, job_id: str) -> JobState | None:
    row = connection.execute(f"SELECT {JOB_COLUMNS} FROM jobs WHERE id = ?", (job_id,)).fetchone()
    return None if row is None else job_state(row)


def last_outcomes(connection: Connection) -> dict[str, RunRow]:
    latest = "SELECT seq FROM runs WHERE job_id = jobs.id ORDER BY due DESC LIMIT 1"  # one step in the unique index
    rows = connection.execute(f"SELECT {RUN_COLUMNS} FROM runs WHERE seq IN (SELECT ({latest}) FROM jobs)")
    return {row["job_id"]: run_row(row) for row in rows}


_OUTCOMES = {
    "running": "outcome IS NULL",
    "succeeded": "outcome = 'succeeded'",
    "failed": "outcome = 'failed' AND outcome <> 'succeeded'",  # the latter says what ``unsuccessful_runs`` is of
    "interrupted": "outcome = 'interrupted' AND outcome <> 'succeeded'",
}


def runs(
    connection: Connection,
    job_id: str | None,
    tag: str | None,
    outcome: str | None,
    before: int | None,
    limit: int,
) -> list[RunRow]:
    conditions: dict[str, object] = {"job_id = ?": job_id, _tagged(connection): tag, "seq < ?": before}
    so = "TRUE" if outcome is None else _OUTCOMES[outcome]
    order = "+seq" if outcome == "running" else "seq"  # as in ``open_runs``
    return [run_row(row) for row in _page(connection, "runs", RUN_COLUMNS, conditions, order, limit, so=so)]


def skips(connection: Connection, job_id: str | None, tag: str | None, before: int | None, limit: int) -> list[SkipRow]:
    conditions: dict[str, object] = {"job_id = ?": job_id, _tagged(connection): tag, "seq < ?": before}
    return [skip_row(row) for row in _page(connection, "skips", SKIP_COLUMNS, conditions, "seq", limit)]


def terms(connection: Connection, before: int | None, limit: int) -> list[TermRow]:
    return [term_row(row) for row in _page(connection, "terms", TERM_COLUMNS, {"term < ?": before}, "term", limit)]


def epochs(connection: Connection) -> list[Epoch]:
    rows = connection.execute("SELECT job_id, since, until, anchor, trigger FROM epochs ORDER BY job_id, since")
    return [
        Epoch(job_id, to_time(since), None if until is None else to_time(until), to_time(anchor), json.loads(trigger))
        for job_id, since, until, anchor, trigger in rows
    ]


def accounts(connection: Connection, job_id: str, first: datetime, last: datetime) -> Accounts:
    stretch = (job_id, to_us(first), to_us(last))
    runs = connection.execute(
        "SELECT due FROM runs WHERE job_id = ? AND due BETWEEN ? AND ? AND request = 0 ORDER BY due", stretch
    )
    skips = connection.execute(
        "SELECT first_due, last_due FROM skips"
        " WHERE job_id = ? AND last_due >= ? AND first_due <= ? AND request = 0 ORDER BY first_due",
        stretch,
    )
    return Accounts([to_time(due) for (due,) in runs], [(to_time(one), to_time(other)) for one, other in skips])


def odd_claims(connection: Connection) -> list[OddClaim]:
    last = "SELECT max(term) FROM runs AS one WHERE (job_id, due, request) = (runs.job_id, runs.due, runs.request)"
    twice = (  # the term apart, so that the index has all that each run is looked at for
        f"SELECT job_id, due, request, ({last}), count(*) FROM runs GROUP BY job_id, due, request HAVING count(*) > 1"
    )
    late = f"""
        SELECT job_id, due, request, first_term, 1 FROM (
          SELECT one.*, max(first_term) OVER (ORDER BY seq) AS latest FROM (
            SELECT seq, job_id, due, request, {connection.dialect.first_term} AS first_term FROM runs
          ) AS one
        ) AS each_run WHERE first_term < latest
    """
    homeless = "SELECT job_id, due, request, term, 0 FROM runs WHERE term NOT IN (SELECT term FROM terms)"
    return [
        OddClaim(Tick(job_id, to_time(due), number), term, times)
        for query in (twice, late, homeless)
        for job_id, due, number, term, times in connection.execute(query)
    ]


def pruned_until(connection: Connection) -> datetime:
    return to_time(connection.execute("SELECT until FROM pruned").fetchone()[0])


def _tagged(connection: Connection) -> str:
    return f"job_id IN (SELECT id FROM jobs WHERE ? IN {connection.dialect.tags})"


def _page(
    connection: Connection,
    table: str,
    columns: str,
    conditions: dict[str, object],
    key: str,
    limit: int,
    *,
    so: str = "TRUE",
) -> Cursor:
    """A page of rows, latest first; a condition without a value does not count.

    The keys first, which an index has at hand, and then the rows of the page and no others. Behind a "+", the key is
    one that no index is chosen for.
    """
    wanted = {condition: value for condition, value in conditions.items() if value is not None}
    where = " AND ".join([so, *wanted])
    plain = key.removeprefix("+")
    keys = f"SELECT {plain} FROM {table} WHERE {where} ORDER BY {key} DESC LIMIT ?"
    select = f"SELECT {columns} FROM {table} WHERE {plain} IN ({keys}) ORDER BY {plain} DESC"
    return connection.execute(select, (*wanted.values(), limit))
