"""What a term writes, entry by entry, within one transaction: here P3 is kept.

A tick of the schedule is accounted for by moving the job's ``settled_until`` forward to it, and only forward; the
unique index on (job, due, request) stands behind that.
"""

from __future__ import annotations

import json
from datetime import datetime
from functools import singledispatch

from election.schedule.model import (
    Claim,
    CompleteRequest,
    DescribeJob,
    EndPause,
    Entry,
    FinishRun,
    MarkBroken,
    RegisterJob,
    RetireJob,
    Retry,
    Skip,
    Tick,
)

from .database import Connection
from .rows import about_text, to_us

_THE_TICK = "job_id = ? AND due = ? AND request = ?"
_THE_OPEN_RUN = f"{_THE_TICK} AND outcome IS NULL"


@singledispatch
def write(entry: Entry, connection: Connection, term: int) -> bool:
    """Write one entry for ``term``; returns whether it took effect."""
    raise TypeError(entry)


@write.register
def _(entry: Claim, connection: Connection, term: int) -> bool:
    tick = entry.tick
    due = to_us(tick.due)
    if tick.request == 0 and not _account(
        connection, tick.job_id, due, since=due, scheduled_since=entry.scheduled_since
    ):
        return False
    granted = connection.execute(
        "INSERT INTO runs (job_id, due, request, term, claimed_at) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (*_key(tick), term, to_us(entry.at)),
    )
    if tick.request:
        connection.execute("UPDATE requests SET done_at = ? WHERE id = ?", (to_us(entry.at), tick.request))
    return granted.rowcount == 1


@write.register
def _(entry: FinishRun, connection: Connection, term: int) -> bool:
    settled = connection.execute(
        f"UPDATE runs SET outcome = ?, ended_at = ?, error = ? WHERE {_THE_OPEN_RUN}",
        (entry.outcome, to_us(entry.at), entry.error, *_key(entry.tick)),
    )
    return settled.rowcount == 1


@write.register
def _(entry: Retry, connection: Connection, term: int) -> bool:
    row = connection.execute(
        f"SELECT seq, attempt, term, attempts FROM runs WHERE {_THE_OPEN_RUN}", _key(entry.tick)
    ).fetchone()
    if row is None:
        return False
    seq, attempt, its_term, earlier = row
    attempts = [
        *json.loads(earlier),
        {
            "attempt": attempt,
            "term": its_term,
            "ended_at": entry.at.isoformat(),
            "outcome": entry.outcome,
            "error": entry.error,
        },
    ]
    connection.execute(
        "UPDATE runs SET attempt = ?, term = ?, attempts = ? WHERE seq = ?",
        (attempt + 1, term, json.dumps(attempts), seq),
    )
    return True


@write.register
def _(entry: Skip, connection: Connection, term: int) -> bool:
    first, last = to_us(entry.first_due), to_us(entry.last_due)
    if entry.claimed:
        claim = connection.execute(f"DELETE FROM runs WHERE {_THE_OPEN_RUN}", (entry.job_id, first, entry.request))
        if claim.rowcount != 1:
            return False
    elif entry.request == 0 and not _account(
        connection, entry.job_id, last, since=first, scheduled_since=entry.scheduled_since
    ):
        return False
    connection.execute(
        "INSERT INTO skips (job_id, first_due, last_due, count, reason, request, term, at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (entry.job_id, first, last, entry.count, entry.reason, entry.request, term, to_us(entry.at)),
    )
    if entry.request:
        connection.execute("UPDATE requests SET done_at = ? WHERE id = ?", (to_us(entry.at), entry.request))
    return True


@write.register
def _(entry: RegisterJob, connection: Connection, term: int) -> bool:
    since, trigger = to_us(entry.since), json.dumps(entry.trigger)
    connection.execute(
        "INSERT INTO jobs (id, trigger, seen_at, accounted_until) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
        " trigger = excluded.trigger, seen_at = excluded.seen_at, retired_at = NULL,"
        f" accounted_until = {connection.dialect.greatest}(jobs.accounted_until, excluded.accounted_until)",
        (entry.job_id, trigger, to_us(entry.at), since),
    )
    open_epoch(connection, entry.job_id, since, to_us(entry.at), trigger)
    return True


@write.register
def _(entry: RetireJob, connection: Connection, term: int) -> bool:
    close_epoch(connection, entry.job_id, to_us(entry.at))
    connection.execute("UPDATE jobs SET retired_at = ? WHERE id = ?", (to_us(entry.at), entry.job_id))
    return True


@write.register
def _(entry: EndPause, connection: Connection, term: int) -> bool:
    until = to_us(entry.until)
    resumed = connection.execute(  # unless it was paused again since
        "UPDATE jobs SET paused_at = NULL, resume_at = NULL,"
        f" accounted_until = {connection.dialect.greatest}(accounted_until, ?) WHERE id = ? AND resume_at = ?",
        (until, entry.job_id, until),
    )
    return resumed.rowcount == 1


@write.register
def _(entry: MarkBroken, connection: Connection, term: int) -> bool:
    connection.execute("UPDATE jobs SET broken = ? WHERE id = ?", (entry.error, entry.job_id))
    return True


@write.register
def _(entry: DescribeJob, connection: Connection, term: int) -> bool:
    connection.execute("UPDATE jobs SET about = ? WHERE id = ?", (about_text(entry.info), entry.job_id))
    return True


@write.register
def _(entry: CompleteRequest, connection: Connection, term: int) -> bool:
    connection.execute("UPDATE requests SET done_at = ? WHERE id = ?", (to_us(entry.at), entry.request))
    return True


def open_epoch(connection: Connection, job_id: str, since: int, anchor: int, trigger: str) -> None:
    """After ``since`` the job owes the ticks of ``trigger``, and no longer those of the one before."""
    close_epoch(connection, job_id, since)
    connection.execute(
        "INSERT INTO epochs (job_id, since, anchor, trigger) VALUES (?, ?, ?, ?) ON CONFLICT (job_id, since) DO UPDATE"
        " SET until = NULL, anchor = excluded.anchor, trigger = excluded.trigger",
        (job_id, since, anchor, trigger),
    )


def close_epoch(connection: Connection, job_id: str, until: int) -> None:
    """After ``until`` the job owes nothing."""
    connection.execute("UPDATE epochs SET until = ? WHERE job_id = ? AND until IS NULL", (until, job_id))


def _account(connection: Connection, job_id: str, until: int, *, since: int, scheduled_since: datetime | None) -> bool:
    """Move the job's ``settled_until`` forward to ``until``, unless it has reached ``since`` already, or the schedule
    that began at ``scheduled_since`` is over: what it owed is accounted for, and
    the ticks of the next one are not its own."""
    move = "UPDATE jobs SET accounted_until = ? WHERE id = ? AND accounted_until < ?"
    if scheduled_since is None:
        moved = connection.execute(move, (until, job_id, since))
    else:
        moved = connection.execute(f"{move} AND seen_at = ?", (until, job_id, since, to_us(scheduled_since)))
    return moved.rowcount == 1


def _key(tick: Tick) -> tuple[str, int, int]:
    return tick.job_id, to_us(tick.due), tick.request
