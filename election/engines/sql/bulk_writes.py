"""Claims and results of many runs in a few statements, for bursts: on a server, each statement is a round trip.

A thousand claims take a sixth of the time on PostgreSQL, and the same on SQLite. Runs that have logged something are
settled one by one, each after its log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import chain, groupby
from typing import Any

from election.schedule.commands import Claim, Command, FinishRun
from election.schedule.model import Tick

from .commands import claimed_run, result_of, write
from .database import Connection
from .rows import tick_key
from .values import to_us_or_none

_WriteSome = Callable[[Connection, Any, int], list[bool]]
"""Writes commands of one kind for a term; returns for each whether it took effect."""

MAX_ROWS = 32
"""Rows of one statement; a statement with ten parameters a row stays within the 500 that every database allows."""

MIN_ROWS = 4
"""Rows for which one statement is worth while."""


def write_all(connection: Connection, commands: Sequence[Command], term: int) -> list[int]:
    """Write commands in order; for each, whether it took effect, or the number of a request. Raises as ``write``."""
    answers: list[int] = []
    for write_some, same in groupby(commands, _bulk_write_of):
        together: list[Any] = list(same)
        if write_some is not None and _are_apart(together):
            answers += _in_parts(connection, together, term, write_some)
        else:
            answers += [write(command, connection, term) for command in together]
    return answers


def _bulk_write_of(command: Command) -> _WriteSome | None:
    match command:
        case Claim(tick=Tick(request=0)):
            return _claim
        case FinishRun():
            return _finish
    return None


def _are_apart(commands: Sequence[Claim | FinishRun]) -> bool:
    """Whether there are enough, and no two concern the same job (or, for results, run), so that any order will do."""
    keys = {command.tick.job_id if isinstance(command, Claim) else command.tick for command in commands}
    return MIN_ROWS <= len(commands) == len(keys)


def _in_parts(connection: Connection, commands: Sequence[Any], term: int, write_some: _WriteSome) -> Iterator[int]:
    """Write by powers of two, so that a database has few different statements to prepare."""
    place, size = 0, MAX_ROWS
    while place < len(commands):
        while size > len(commands) - place:
            size //= 2
        some = commands[place : place + size]
        if size >= MIN_ROWS:
            yield from write_some(connection, some, term)
        else:
            yield from (write(command, connection, term) for command in some)
        place += size


def _claim(connection: Connection, claims: Sequence[Claim], term: int) -> list[bool]:
    """Claim scheduled ticks of different jobs; the rules are those of one claim in ``commands``."""
    runs = [claimed_run(claim, term) for claim in claims]
    moves = [(*run[:2], to_us_or_none(claim.scheduled_since)) for run, claim in zip(runs, claims, strict=True)]
    moved = {row[0] for row in connection.execute(_move(len(moves)), tuple(chain.from_iterable(moves)))}
    rows = [run for run in runs if run[0] in moved]
    granted: set[str] = set()
    if rows:
        granted = {row[0] for row in connection.execute(_insert(len(rows)), tuple(chain.from_iterable(rows)))}
    return [claim.tick.job_id in granted for claim in claims]


def _finish(connection: Connection, runs: Sequence[FinishRun], term: int) -> list[bool]:
    """Settle different runs."""
    rows = [(*tick_key(run.tick), *result_of(run)) for run in runs]
    settled = {tuple(row) for row in connection.execute(_settle(len(rows)), tuple(chain.from_iterable(rows)))}
    return [row[:3] in settled for row in rows]


@cache
def _move(rows: int) -> str:
    """Move ``settled_until`` of jobs forward; returns the ids of those that it has moved."""
    return (
        f"WITH claimed(job_id, due, since) AS ({_values(rows, '?, CAST(? AS BIGINT), CAST(? AS BIGINT)')})"
        " UPDATE jobs SET settled_until = claimed.due FROM claimed WHERE jobs.id = claimed.job_id"
        " AND settled_until < claimed.due AND (claimed.since IS NULL OR scheduled_since = claimed.since)"
        " RETURNING jobs.id"
    )


@cache
def _insert(rows: int) -> str:
    """Insert runs; returns the ids of the jobs whose tick had none yet."""
    return (
        "INSERT INTO runs (job_id, due, request, term, claimed_at, max_instances)"
        f" {_values(rows, '?, ?, ?, ?, ?, ?')} ON CONFLICT (job_id, due, request) DO NOTHING RETURNING job_id"
    )


@cache
def _settle(rows: int) -> str:
    """Settle open runs; returns the keys of their ticks."""
    mark = "CAST(? AS BIGINT)"
    columns = f"?, {mark}, {mark}, CAST(? AS TEXT), {mark}, CAST(? AS TEXT), {mark}, {mark}, {mark}"
    return (
        "WITH ended(its_job, its_due, its_request, its_outcome, its_end, its_error, started, began, finished)"
        f" AS ({_values(rows, columns)}) UPDATE runs SET outcome = its_outcome, ended_at = its_end, error = its_error,"
        " started_at = coalesce(started_at, started), began_us = began, ended_us = finished FROM ended"
        " WHERE job_id = its_job AND due = its_due AND request = its_request AND outcome IS NULL"
        " RETURNING job_id, due, request"
    )


def _values(rows: int, columns: str) -> str:
    return f"VALUES {', '.join([f'({columns})'] * rows)}"
