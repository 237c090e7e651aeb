"""Reads of a ledger in SQL: its state and its history."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from election.core.backend import LatestTerms
from election.schedule.history import MAX_COUNTED, MAX_SKIPPED, Epoch, JobOverview, RunRow, SkipRow, TermRow, Window
from election.schedule.model import JobState, OpenRun, Request, State
from election.schedule.store import FIRST_JOBS, Filter, Kind

from .database import Connection, Row
from .place import read_copied
from .rows import (
    AUDIT_COLUMNS,
    CLAIM_COLUMNS,
    DUE_ORDER,
    JOB_COLUMNS,
    LOG_COLUMNS,
    NEVER,
    PRUNED,
    REQUEST_COLUMNS,
    RUN_COLUMNS,
    SKIP_COLUMNS,
    TERM_COLUMNS,
    audit_row,
    claim_row,
    epoch,
    job_state,
    needed,
    open_run,
    printable,
    readable,
    request,
    request_row,
    run_row,
    skip_row,
    term_row,
)
from .values import CONVERTIBLE, parse_log, to_time, to_us

_Key = TypeVar("_Key", str, int)
_V = TypeVar("_V")

MAX_EARLIER_ROWS = 500
"""Rows before a window that are searched for runs that extend into it."""

MAX_PARAMETERS = 500
"""Parameters of one statement; SQLite may allow 999."""

_LIVE_JOBS = f"SELECT {JOB_COLUMNS} FROM jobs WHERE removed = 0 ORDER BY id {{}}"

MAX_ATTEMPT = 2**31
"""Larger than any attempt number."""

LAST_CHANGE = f"coalesce(max(number), 0) FROM job_changes WHERE number < {NEVER}"
"""Without a number that no worker has written; text and bytes are greater than any number in SQLite."""

_FIRST_TERM = "CASE attempt WHEN 1 THEN term ELSE {} END"  # JSON is parsed for few rows

MAX_ROWS_SEARCHED = 20_000
"""Rows that are searched for unsuccessful runs, where a window has too many to return all."""


def last_term(connection: Connection) -> int:
    """The largest number of a term that was begun; 0 if none."""
    return int(connection.execute("SELECT coalesce(max(term), 0) FROM terms").fetchone()[0])


def latest_terms(connection: Connection) -> LatestTerms:
    """The largest numbers of a term that was begun, and of one with an intent to fence its leader."""
    largest = "(SELECT coalesce(max(term), 0) FROM {})".format
    begun, fenced = connection.execute(f"SELECT {largest('terms')}, {largest('fences')}").fetchone()
    return LatestTerms(begun, fenced)


def state(connection: Connection) -> State:
    """State that a leader needs at the start of its term."""
    requests, runs, copied = open_requests(connection), open_runs(connection), read_copied(connection)
    few = [job_state(row) for row in connection.execute(_LIVE_JOBS.format(f"LIMIT {FIRST_JOBS + 1}"))]
    if len(few) <= FIRST_JOBS:
        return State(few, requests, runs, copied)
    of_code = connection.execute(f"SELECT {JOB_COLUMNS} FROM jobs WHERE removed = 0 AND func IS NULL")
    ids = connection.execute(f"SELECT id FROM jobs WHERE removed = 0 AND func IS NOT NULL ORDER BY {DUE_ORDER}")
    stored = readable(lambda row: row[0], ids)
    urgent = {*stored[:FIRST_JOBS], *(run.tick.job_id for run in runs)}
    urgent |= {each.job_id for each in requests if each.job_id is not None}
    first = {found.id: found for found in [*map(job_state, of_code), *find_jobs(connection, sorted(urgent))]}
    jobs = [first[job_id] for job_id in sorted(first) if not first[job_id].removed]
    return State(jobs, requests, runs, copied, rest=[job_id for job_id in stored if job_id not in first])


def open_requests(connection: Connection) -> list[Request]:
    rows = connection.execute("SELECT * FROM requests WHERE done_at IS NULL ORDER BY id")
    return readable(request, rows)


def change(connection: Connection, since: int) -> State:
    """Return the changes after change number ``since``."""
    changed = "SELECT job_id FROM job_changes WHERE number > ? UNION SELECT job_id FROM requests WHERE done_at IS NULL"
    rows = connection.execute(f"SELECT {JOB_COLUMNS} FROM jobs WHERE id IN ({changed}) ORDER BY id", (since,))
    jobs = [job_state(row) for row in rows]
    about = frozenset(job.id for job in jobs)
    return State(jobs, open_requests(connection), [], read_copied(connection), about)


def last_change(connection: Connection) -> int:
    """The number of the latest change of a job; 0 if there was none."""
    return int(connection.execute(f"SELECT {LAST_CHANGE}").fetchone()[0])


def data_version(connection: Connection) -> int:
    """Number that changes only when another connection has written; the cheapest query."""
    return int(connection.execute(connection.dialect.version).fetchone()[0])


def open_runs(connection: Connection) -> list[OpenRun]:
    rows = connection.execute(  # "+": SQLite would otherwise read every run instead of sorting the few of an index
        "SELECT runs.job_id, due, request, runs.term, attempt, attempts, kwargs FROM runs"
        " LEFT JOIN requests ON requests.id = request WHERE runs.outcome IS NULL ORDER BY +seq"
    )
    return readable(open_run, rows)


def jobs(connection: Connection, *, removed: bool = False) -> list[JobState]:
    query = f"SELECT {JOB_COLUMNS} FROM jobs ORDER BY id" if removed else _LIVE_JOBS.format("")
    return [job_state(row) for row in connection.execute(query)]


def find_jobs(connection: Connection, job_ids: Sequence[str]) -> list[JobState]:
    """The jobs with these ids."""
    found: list[JobState] = []
    for which, some in in_parts(job_ids):
        found += map(job_state, connection.execute(f"SELECT {JOB_COLUMNS} FROM jobs WHERE id {which}", some))
    return found


def overview(connection: Connection, limit: int) -> JobOverview:
    """Up to ``limit`` jobs of the code, and as many that were added at run time."""
    few = [job_state(row) for row in connection.execute(_LIVE_JOBS.format("LIMIT ?"), (limit + 1,))]
    if len(few) <= limit:
        return _overview_of_few(few)
    select = f"SELECT {JOB_COLUMNS} FROM jobs WHERE removed = 0 AND func"
    code = connection.execute(f"{select} IS NULL ORDER BY retired_at IS NOT NULL, id LIMIT ?", (limit,))
    stored = connection.execute(f"{select} IS NOT NULL ORDER BY {DUE_ORDER} LIMIT ?", (limit,))
    every = list(connection.execute("SELECT id, broken, retired_at FROM jobs WHERE removed = 0 AND func IS NULL"))
    code_ids = {printable(row["id"]): row["broken"] for row in every if row["retired_at"] is None}
    count = connection.execute("SELECT count(*) FROM jobs WHERE removed = 0").fetchone()[0]  # read from an index alone
    total = count - len(every) + len(code_ids)
    return JobOverview([*map(job_state, code)], [*map(job_state, stored)], code_ids, total)


def _overview_of_few(jobs: Sequence[JobState]) -> JobOverview:
    """Overview of all jobs, given in the order of their ids."""
    code = sorted((job for job in jobs if job.stored is None), key=lambda job: job.retired_at is not None)
    stored = sorted((job for job in jobs if job.stored is not None), key=_due_order)
    code_ids = {job.id: job.broken for job in code if job.retired_at is None}
    return JobOverview(code, stored, code_ids, len(code_ids) + len(stored))


def _due_order(job: JobState) -> tuple[bool, int, str]:
    """``DUE_ORDER`` of a job that was added at run time."""
    due = None if job.paused_at or job.broken else job.next_due
    return due is None, 0 if due is None else to_us(due), job.id


def jobs_after(connection: Connection, job_id: str, limit: int) -> list[JobState]:
    """Up to ``limit`` jobs with larger ids, by id."""
    select = f"SELECT {JOB_COLUMNS} FROM jobs WHERE removed = 0 AND id > ? ORDER BY id LIMIT ?"
    return [job_state(row) for row in connection.execute(select, (job_id, limit))]


def latest_runs(connection: Connection, job_ids: Sequence[str]) -> dict[str, RunRow]:
    """The latest run of each of these jobs."""
    found: dict[str, RunRow] = {}
    latest = "SELECT seq FROM runs WHERE job_id = jobs.id ORDER BY due DESC LIMIT 1"  # one step in the unique index
    select = f"SELECT {RUN_COLUMNS} FROM runs WHERE seq IN (SELECT ({latest}) FROM jobs WHERE id {{}})"
    for which, some in in_parts(job_ids):
        found |= {run.job_id: run for run in readable(run_row, connection.execute(select.format(which), some))}
    return found


def in_parts(keys: Sequence[_Key]) -> Iterator[tuple[str, tuple[_Key, ...]]]:
    """Yield an ``IN`` condition and its parameters for each batch of ``keys``."""
    for place in range(0, len(keys), MAX_PARAMETERS):
        some = tuple(keys[place : place + MAX_PARAMETERS])
        yield f"IN ({', '.join('?' * len(some))})", some


_OUTCOMES = {
    "running": "outcome IS NULL",
    "succeeded": "outcome = 'succeeded'",
    "failed": "outcome = 'failed' AND outcome <> 'succeeded'",  # the second is the condition of ``unsuccessful_runs``
    "interrupted": "outcome = 'interrupted' AND outcome <> 'succeeded'",
}


def page(connection: Connection, kind: Kind, where: Filter, before: int | None, limit: int) -> list[Any]:
    """Read a page of rows, latest first; without those that cannot be read."""
    if kind == Kind.TERM:
        return _page(connection, "terms", TERM_COLUMNS, {"term < ?": before}, "term", limit, term_row)
    if kind == Kind.REQUEST:
        return _page(connection, "requests", REQUEST_COLUMNS, {"id < ?": before}, "id", limit, request_row)
    if kind == Kind.AUDIT:
        conditions = {"job_id = ?": where.job_id, "seq < ?": before}
        return _page(connection, "audit", AUDIT_COLUMNS, conditions, "seq", limit, audit_row)
    if kind == Kind.LOG:
        logs = connection.execute(
            f"SELECT {LOG_COLUMNS} FROM run_logs WHERE run = ? AND attempt < ? ORDER BY attempt DESC LIMIT ?",
            (where.run, MAX_ATTEMPT if before is None else before, limit),
        )
        return readable(lambda row: parse_log(row["attempt"], row["log"]), logs)
    if kind == Kind.CLAIM:
        columns = f"seq, job_id, due, request, {_FIRST_TERM.format(connection.dialect.first_term)}, {CLAIM_COLUMNS}"
        return _page(connection, "runs", columns, {"seq < ?": before}, "seq", limit, claim_row)
    order = "+seq" if where.outcome == "running" else "seq"  # as in ``open_runs``
    conditions = {"job_id = ?": where.job_id, _tagged(connection): where.tag, f"{order} < ?": before}
    if kind == Kind.SKIP:
        return _page(connection, "skips", SKIP_COLUMNS, conditions, "seq", limit, skip_row)
    so = "TRUE" if where.outcome is None else _OUTCOMES[where.outcome]
    return _page(connection, "runs", RUN_COLUMNS, conditions, order, limit, run_row, so=so)


def epochs(connection: Connection) -> list[Epoch]:
    rows = connection.execute("SELECT job_id, since, until, anchor, trigger, rule FROM epochs ORDER BY job_id, since")
    return [needed(epoch, row, f"a schedule of job {printable(row['job_id'])}") for row in rows]


def pruned_until(connection: Connection) -> datetime:
    """The time before which history was removed. Raises ``LedgerError`` if it cannot be read."""
    row = connection.execute("SELECT until FROM pruned").fetchone()
    return needed(lambda row: to_time(row[0]), row, PRUNED)


def _tagged(connection: Connection) -> str:
    return f"job_id IN (SELECT id FROM jobs WHERE ? IN {connection.dialect.tags})"


def _page(
    connection: Connection,
    table: str,
    columns: str,
    conditions: Mapping[str, object],
    key: str,
    limit: int,
    convert: Callable[[Row], _V],
    *,
    so: str = "TRUE",
) -> list[_V]:
    """A page of converted rows, latest first; a condition without a value is ignored.

    Rows before them take the places of those that cannot be read, because a page that is not full is the last one.

    Selects the keys from an index first, and then only the rows of the page. A "+" before the key keeps the database
    from choosing an index for it.
    """
    wanted = {condition: value for condition, value in conditions.items() if value is not None}
    where = " AND ".join([so, *wanted])
    plain = key.removeprefix("+")
    keys = f"SELECT {plain} FROM {table} WHERE {where} ORDER BY {key} DESC LIMIT ?"
    select = f"SELECT {columns} FROM {table} WHERE {plain} IN ({keys}) ORDER BY {plain} DESC"
    rows = [*connection.execute(select, (*wanted.values(), limit))]
    found = readable(convert, rows)
    if len(found) == len(rows) or len(rows) < limit:
        return found
    earlier = {**conditions, f"{key} < ?": rows[-1][plain]}
    return found + _page(connection, table, columns, earlier, key, limit - len(found), convert, so=so)


def window(connection: Connection, since: datetime, until: datetime, limit: int) -> Window:
    """Read a sample of a time range, see ``LedgerReader.window``.

    Needs no index, which would slow down each claim: rows are written in the order of time, so bisection finds the
    keys at which the range begins and ends. The number of rows that are read is bounded, since the ledger's thread has
    other work.
    """
    stretch = to_us(since), to_us(until)
    run_keys = _keys(connection, "runs", "seq", "claimed_at", *stretch)
    skip_keys = _keys(connection, "skips", "seq", "skipped_at", *stretch)
    runs, runs_every = _sampled_runs(connection, run_keys, *stretch, limit)
    skips, skips_every = _sampled_skips(connection, skip_keys, limit)
    terms = _window_terms(connection, *stretch, limit)
    counts = _counts(connection, run_keys, skip_keys)
    return Window(terms, runs, skips, runs_every, skips_every, counts, _begins(connection))


def _counts(connection: Connection, runs: tuple[int, int], skips: tuple[int, int]) -> dict[str, int] | None:
    """Runs by outcome and skipped ticks, in half-open ranges of keys; None if there are too many rows."""
    if sum(beyond - first for first, beyond in (runs, skips)) > MAX_COUNTED:
        return None
    by_outcome = "SELECT coalesce(outcome, 'running'), count(*) FROM runs WHERE seq >= ? AND seq < ? GROUP BY outcome"
    one = f"CASE WHEN count BETWEEN 1 AND {MAX_SKIPPED} THEN count ELSE 1 END"
    skipped = f"SELECT coalesce(sum({one}), 0) FROM skips WHERE seq >= ? AND seq < ?"
    counts = {str(outcome): int(number) for outcome, number in connection.execute(by_outcome, runs)}
    return {**counts, "skipped": int(connection.execute(skipped, skips).fetchone()[0])}


def _sampled_runs(
    connection: Connection, keys: tuple[int, int], since: int, until: int, limit: int
) -> tuple[list[RunRow], int]:
    first, beyond = keys
    every = _every(first, beyond, limit)
    steps = (first, every, beyond, beyond)
    select = f"SELECT {RUN_COLUMNS} FROM runs"
    found = [
        *connection.execute(f"{select} WHERE {_IN_STEPS}", steps),
        *connection.execute(
            f"{select} WHERE seq >= ? AND seq < ? AND ended_at >= ?", (first - MAX_EARLIER_ROWS, first, since)
        ),
        *connection.execute(f"{select} WHERE outcome IS NULL AND claimed_at <= ? LIMIT ?", (until, limit)),
    ]
    if every > 1:
        found += connection.execute(
            f"{select} WHERE seq >= ? AND seq < ? AND outcome <> 'succeeded' ORDER BY seq DESC LIMIT ?",
            (max(first, beyond - MAX_ROWS_SEARCHED), beyond, limit // 2),
        )
    by_seq = {run.seq: run for run in readable(run_row, found)}
    return [by_seq[seq] for seq in sorted(by_seq, reverse=True)], every


def _sampled_skips(connection: Connection, keys: tuple[int, int], limit: int) -> tuple[list[SkipRow], int]:
    first, beyond = keys
    every = _every(first, beyond, limit)
    steps = (first, every, beyond, beyond)
    found = connection.execute(f"SELECT {SKIP_COLUMNS} FROM skips WHERE {_IN_STEPS} ORDER BY seq DESC", steps)
    return readable(skip_row, found), every


def _window_terms(connection: Connection, since: int, until: int, limit: int) -> list[TermRow]:
    """Terms that began in the window, and the one before, which may extend into it."""
    first, beyond = _keys(connection, "terms", "term", "began_at", since, until)
    before = "SELECT coalesce(max(term), ?) FROM terms WHERE term < ?"
    found = connection.execute(
        f"SELECT {TERM_COLUMNS} FROM terms WHERE term >= ({before}) AND term < ? ORDER BY term DESC LIMIT ?",
        (first, first, beyond, limit),
    )
    return readable(term_row, found)


def _begins(connection: Connection) -> datetime | None:
    oldest = connection.execute(
        "SELECT * FROM (SELECT claimed_at FROM runs ORDER BY seq LIMIT 1) AS run"
        " UNION ALL SELECT * FROM (SELECT began_at FROM terms ORDER BY term LIMIT 1) AS term"
    )
    return min(readable(lambda row: to_time(row[0]), oldest), default=None)


_IN_STEPS = (
    "seq IN (WITH RECURSIVE step(n) AS (SELECT ? UNION ALL SELECT n + ? FROM step WHERE n < ?)"
    " SELECT n FROM step WHERE n < ?)"
)


def _every(first: int, beyond: int, limit: int) -> int:
    return max(1, -(-(beyond - first) // limit))


def _keys(connection: Connection, table: str, key: str, time: str, since: int, until: int) -> tuple[int, int]:
    """The first key of a time range, and the first after it."""
    return _at(connection, table, key, time, since), _at(connection, table, key, time, until + 1)


def _at(connection: Connection, table: str, key: str, time: str, moment: int) -> int:
    """The smallest key of a row that is not earlier than ``moment``; one more than the largest if there is none.

    A row whose time cannot be read counts as later than the rows before it, and no later than those after it.
    """
    low, high = connection.execute(
        f"SELECT coalesce((SELECT min({key}) FROM {table}), 1), coalesce((SELECT max({key}) FROM {table}) + 1, 1)"
    ).fetchone()
    probe = f"SELECT {key}, {time} FROM {table} WHERE {key} >= ? AND {time} {CONVERTIBLE} ORDER BY {key} LIMIT 1"
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(probe, (middle,)).fetchone()
        if row is not None and row[1] < moment:
            low = row[0] + 1
        else:
            high = middle
    return int(low)
