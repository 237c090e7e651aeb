"""Commands of a term as SQL, each within the transaction of its write: P3 is enforced here.

A tick of the schedule is settled by moving the job's ``settled_until`` forward to it, and only forward; the
unique index on (job, due, request) is the second safeguard.
"""

from __future__ import annotations

import json
from datetime import datetime
from functools import singledispatch
from typing import Any

from election.schedule.commands import (
    Claim,
    Command,
    CompleteRequest,
    DescribeJob,
    EndPause,
    FinishJob,
    FinishRun,
    KeepResult,
    MarkBroken,
    RecordLog,
    RegisterJob,
    RetireJob,
    Retry,
    SetNextDue,
    Skip,
)
from election.schedule.history import MAX_LOGS, MAX_LOGS_PER_JOB
from election.schedule.model import TICK_RULE, RequestOutcome
from election.schedule.store import term_over

from .database import Connection
from .queries import last_term
from .rows import tick_key
from .values import info_text, log_text, to_us, to_us_or_none

_THE_TICK = "job_id = ? AND due = ? AND request = ?"
_THE_OPEN_RUN = f"{_THE_TICK} AND outcome IS NULL"


@singledispatch
def write(command: Command, connection: Connection, term: int) -> int:
    """Write one command for ``term``; returns whether it took effect, or the number of a request.

    Raises:
        StaleTermError: The term of a ``BeginTerm`` was begun by another process.
        UnmetConditionError: A condition does not hold.
    """
    raise TypeError(command)


def refuse_stale(connection: Connection, term: int) -> None:
    """Raise ``StaleTermError`` if a later term than ``term`` has begun."""
    latest = last_term(connection)
    if latest > term:
        raise term_over(term, latest)


def claimed_run(command: Claim, term: int) -> tuple[Any, ...]:
    """Values of a run when it is claimed, in the order of ``job_id, due, request, term, claimed_at, max_instances``."""
    return *tick_key(command.tick), term, to_us(command.at), command.max_instances


def result_of(command: FinishRun) -> tuple[Any, ...]:
    """Values of a run's result, in the order of ``outcome, ended_at, error, started_at, began_us, ended_us``."""
    span = (None, None) if command.span is None else (command.span.began_us, command.span.ended_us)
    return command.outcome, to_us(command.at), command.error, to_us_or_none(command.started_at), *span


@write.register
def _(command: Claim, connection: Connection, term: int) -> bool:
    tick = command.tick
    due = to_us(tick.due)
    if tick.request == 0 and not _account(
        connection, tick.job_id, due, since=due, scheduled_since=command.scheduled_since
    ):
        return False
    granted = connection.execute(
        "INSERT INTO runs (job_id, due, request, term, claimed_at, max_instances) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (job_id, due, request) DO NOTHING",
        claimed_run(command, term),
    )
    if tick.request:
        connection.execute(
            f"UPDATE requests SET done_at = ?, outcome = ?, run = (SELECT seq FROM runs WHERE {_THE_TICK})"
            " WHERE id = ?",
            (to_us(command.at), RequestOutcome.RAN, *tick_key(tick), tick.request),
        )
    return granted.rowcount == 1


@write.register
def _(command: FinishRun, connection: Connection, term: int) -> bool:
    settled = connection.execute(
        "UPDATE runs SET outcome = ?, ended_at = ?, error = ?, started_at = coalesce(started_at, ?), began_us = ?,"
        f" ended_us = ? WHERE {_THE_OPEN_RUN}",
        (*result_of(command), *tick_key(command.tick)),
    )
    return settled.rowcount == 1


@write.register
def _(command: RecordLog, connection: Connection, term: int) -> bool:
    job_id, failed = command.tick.job_id, int(command.log.traceback is not None)
    kept = connection.execute(
        "INSERT INTO run_logs (run, attempt, job_id, failed, log) SELECT seq, ?, job_id, ?, ? FROM runs"
        f" WHERE {_THE_TICK} ON CONFLICT (run, attempt) DO NOTHING",
        (command.log.attempt, failed, log_text(command.log), *tick_key(command.tick)),
    )
    connection.execute(
        "DELETE FROM run_logs WHERE job_id = ? AND failed = ? AND id <= (SELECT id FROM run_logs"
        " WHERE job_id = ? AND failed = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
        (job_id, failed, job_id, failed, MAX_LOGS_PER_JOB),
    )
    connection.execute("DELETE FROM run_logs WHERE id <= (SELECT max(id) FROM run_logs) - ?", (MAX_LOGS,))
    return kept.rowcount == 1


@write.register
def _(command: KeepResult, connection: Connection, term: int) -> bool:
    keep = "UPDATE requests SET result = ? WHERE id = ?"
    return connection.execute(keep, (command.value, command.request)).rowcount == 1


@write.register
def _(command: Retry, connection: Connection, term: int) -> bool:
    row = connection.execute(
        f"SELECT seq, attempt, term, attempts FROM runs WHERE {_THE_OPEN_RUN}", tick_key(command.tick)
    ).fetchone()
    if row is None:
        return False
    seq, attempt, its_term, earlier = row
    attempts = [
        *json.loads(earlier),
        {
            "attempt": attempt,
            "term": its_term,
            "ended_at": command.at.isoformat(),
            "outcome": command.outcome,
            "error": command.error,
        },
    ]
    connection.execute(
        "UPDATE runs SET attempt = ?, term = ?, attempts = ?, started_at = coalesce(started_at, ?) WHERE seq = ?",
        (attempt + 1, term, json.dumps(attempts), to_us_or_none(command.started_at), seq),
    )
    return True


@write.register
def _(command: Skip, connection: Connection, term: int) -> bool:
    first, last = to_us(command.first_due), to_us(command.last_due)
    if command.claimed:
        claim = connection.execute(f"DELETE FROM runs WHERE {_THE_OPEN_RUN}", (command.job_id, first, command.request))
        if claim.rowcount != 1:
            return False
    elif command.request == 0 and not _account(
        connection, command.job_id, last, since=first, scheduled_since=command.scheduled_since
    ):
        return False
    connection.execute(
        "INSERT INTO skips (job_id, first_due, last_due, count, reason, request, term, skipped_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (command.job_id, first, last, command.count, command.reason, command.request, term, to_us(command.at)),
    )
    if command.request:
        _complete(connection, command.request, command.at, RequestOutcome.SKIPPED, command.reason)
    return True


@write.register
def _(command: RegisterJob, connection: Connection, term: int) -> bool:
    since, trigger = to_us(command.since), json.dumps(command.trigger)
    connection.execute(
        "INSERT INTO jobs (id, trigger, scheduled_since, settled_until) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE"
        " SET trigger = excluded.trigger, scheduled_since = excluded.scheduled_since, retired_at = NULL, removed = 0,"
        " func = CASE jobs.removed WHEN 0 THEN jobs.func END,"  # a removed job may now be in the code
        " new_trigger = CASE jobs.new_trigger WHEN excluded.trigger THEN jobs.new_trigger END,"  # else the code decides
        f" settled_until = {connection.dialect.greatest}(jobs.settled_until, excluded.settled_until)",
        (command.job_id, trigger, to_us(command.at), since),
    )
    open_epoch(connection, command.job_id, since, to_us(command.at), trigger)
    return True


@write.register
def _(command: RetireJob, connection: Connection, term: int) -> bool:
    close_epoch(connection, command.job_id, to_us(command.at))
    connection.execute(
        "UPDATE jobs SET retired_at = ?, broken = NULL WHERE id = ?", (to_us(command.at), command.job_id)
    )
    return True


@write.register
def _(command: FinishJob, connection: Connection, term: int) -> bool:
    finished = connection.execute(
        "UPDATE jobs SET removed = 2 WHERE id = ? AND scheduled_since = ? AND settled_until >= ? AND removed = 0"
        " AND func IS NOT NULL AND paused_at IS NULL"
        " AND NOT EXISTS (SELECT 1 FROM runs WHERE job_id = jobs.id AND outcome IS NULL)"
        " AND NOT EXISTS (SELECT 1 FROM requests WHERE job_id = jobs.id AND done_at IS NULL)",
        (command.job_id, to_us(command.scheduled_since), to_us(command.settled_until)),
    )
    if finished.rowcount == 1:
        close_epoch(connection, command.job_id, to_us(command.at))
    return finished.rowcount == 1


@write.register
def _(command: EndPause, connection: Connection, term: int) -> bool:
    until = to_us(command.until)
    resumed = connection.execute(  # unless it was paused again since
        "UPDATE jobs SET paused_at = NULL, resume_at = NULL,"
        f" settled_until = {connection.dialect.greatest}(settled_until, ?) WHERE id = ? AND resume_at = ?",
        (until, command.job_id, until),
    )
    return resumed.rowcount == 1


@write.register
def _(command: MarkBroken, connection: Connection, term: int) -> bool:
    connection.execute("UPDATE jobs SET broken = ? WHERE id = ?", (command.error, command.job_id))
    return True


@write.register
def _(command: DescribeJob, connection: Connection, term: int) -> bool:
    connection.execute("UPDATE jobs SET info = ? WHERE id = ?", (info_text(command.info), command.job_id))
    return True


@write.register
def _(command: SetNextDue, connection: Connection, term: int) -> bool:
    hint = "UPDATE jobs SET next_due = ? WHERE id = ?"
    return connection.execute(hint, (to_us(command.due), command.job_id)).rowcount == 1


@write.register
def _(command: CompleteRequest, connection: Connection, term: int) -> bool:
    _complete(connection, command.request, command.at, command.outcome, command.reason)
    return True


def _complete(connection: Connection, request: int, at: datetime, outcome: RequestOutcome, reason: str | None) -> None:
    connection.execute(
        "UPDATE requests SET done_at = ?, outcome = ?, reason = ? WHERE id = ?", (to_us(at), outcome, reason, request)
    )


def _account(connection: Connection, job_id: str, until: int, *, since: int, scheduled_since: datetime | None) -> bool:
    """Move the job's ``settled_until`` forward to ``until``, unless it has reached ``since`` already, or the schedule
    that began at ``scheduled_since`` is over: its ticks are settled, and those of the next schedule do not count."""
    move = "UPDATE jobs SET settled_until = ? WHERE id = ? AND settled_until < ?"
    if scheduled_since is None:
        moved = connection.execute(move, (until, job_id, since))
    else:
        moved = connection.execute(f"{move} AND scheduled_since = ?", (until, job_id, since, to_us(scheduled_since)))
    return moved.rowcount == 1


def open_epoch(connection: Connection, job_id: str, since: int, anchor: int, trigger: str) -> None:
    """Begin an epoch: after ``since`` the ticks of ``trigger`` are due, and no longer those of the former one."""
    close_epoch(connection, job_id, since)
    connection.execute(
        "INSERT INTO epochs (job_id, since, anchor, trigger, rule) VALUES (?, ?, ?, ?, ?) ON CONFLICT (job_id, since)"
        " DO UPDATE SET until = NULL, anchor = excluded.anchor, trigger = excluded.trigger, rule = excluded.rule",
        (job_id, since, anchor, trigger, TICK_RULE),
    )


def close_epoch(connection: Connection, job_id: str, until: int) -> None:
    """End the job's epoch: after ``until`` no ticks are due."""
    connection.execute("UPDATE epochs SET until = ? WHERE job_id = ? AND until IS NULL", (until, job_id))
