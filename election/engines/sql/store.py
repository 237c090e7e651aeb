"""Ledger store in SQL, on any database that isolates its transactions. Implements ``LedgerStore``."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from datetime import datetime
from typing import Any

from election.core.backend import LatestTerms
from election.schedule.commands import (
    AddRequest,
    Adopt,
    BeginTerm,
    Command,
    EndPause,
    Fence,
    PauseJob,
    RegisterJob,
    RemoveJob,
    RescheduleJob,
    ResumeJob,
    StoreJob,
)
from election.schedule.history import Epoch, JobOverview, RunRow, Totals, Window
from election.schedule.model import JobState, State
from election.schedule.store import Filter, Kind

from . import pool_commands, queries  # noqa: F401  registers its commands
from .bulk_writes import write_all
from .commands import refuse_stale
from .database import Connection, Database
from .place import is_moved
from .totals import count, forget_jobs, read_totals
from .values import CONVERTIBLE, to_us

PRUNE_SCAN_FACTOR = 20
"""Oldest rows that are scanned per row that may be removed: a scan of all rows would keep claims waiting."""

_OF_A_JOB = (RegisterJob, EndPause, PauseJob, ResumeJob, StoreJob, RescheduleJob, RemoveJob)
_NOTICED = (*_OF_A_JOB, BeginTerm, AddRequest, Adopt)


class SqlStore:
    """A ledger in a database.

    Args:
        database: Database with the tables that the dialect's schema makes.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._seen: tuple[Connection, int] | None = None
        self._last_change: int | None = None

    def check(self) -> None:
        """Do nothing: a server that cannot be reached at the start may be reached later."""

    async def integrity(self) -> list[str]:
        return []  # a server checks its own storage

    async def close(self) -> None:
        await self.database.close()

    def write(self, commands: Sequence[Command], *, term: int | None) -> Awaitable[list[int]]:
        if all(isinstance(command, Fence) for command in commands):
            return self.database.write_urgently(lambda connection: _write_all(connection, commands, term))
        return self.database.written(lambda connection: _write_all(connection, commands, term))

    async def begin(self, commands: Sequence[Command], *, term: int) -> State:
        def begin(connection: Connection) -> State:
            _write_all(connection, commands, term)
            self._seen = connection, queries.data_version(connection)
            self._last_change = queries.last_change(connection)
            return queries.state(connection)

        return await self.database.write(begin)

    async def changes(self) -> State | None:
        def look(connection: Connection) -> State | None:
            now = connection, queries.data_version(connection)  # versions of two connections cannot be compared
            if now == self._seen:
                return None
            since, last = self._last_change, queries.last_change(connection)
            found = queries.state(connection) if since is None else queries.change(connection, since)
            self._seen, self._last_change = now, last  # a read that fails is made again
            return found

        return await self.database.read(look)

    async def prune(self, before: datetime, at_most: int) -> int:
        return await self.database.write(lambda connection: prune(connection, to_us(before), at_most))

    async def is_moved(self) -> bool:
        return await self.database.read(is_moved)

    async def find_jobs(self, job_ids: Sequence[str]) -> list[JobState]:
        return await self.database.read(lambda connection: queries.find_jobs(connection, job_ids))

    async def jobs(self, *, removed: bool = False) -> list[JobState]:
        return await self.database.read(lambda connection: queries.jobs(connection, removed=removed))

    async def overview(self, limit: int) -> JobOverview:
        return await self.database.read(lambda connection: queries.overview(connection, limit))

    async def jobs_after(self, job_id: str, limit: int) -> list[JobState]:
        return await self.database.read(lambda connection: queries.jobs_after(connection, job_id, limit))

    async def page(self, kind: Kind, where: Filter, before: int | None, limit: int) -> list[Any]:
        return await self.database.read(lambda connection: queries.page(connection, kind, where, before, limit))

    async def latest_runs(self, job_ids: Sequence[str]) -> dict[str, RunRow]:
        return await self.database.read(lambda connection: queries.latest_runs(connection, job_ids))

    async def window(self, since: datetime, until: datetime, limit: int) -> Window:
        return await self.database.read(lambda connection: queries.window(connection, since, until, limit))

    async def epochs(self) -> list[Epoch]:
        return await self.database.read(queries.epochs)

    async def latest_terms(self) -> LatestTerms:
        return await self.database.read(queries.latest_terms)

    async def totals(self) -> Totals:
        return await self.database.read(read_totals)

    async def pruned_until(self) -> datetime:
        return await self.database.read(queries.pruned_until)


def _write_all(connection: Connection, commands: Sequence[Command], term: int | None) -> list[int]:
    if term is None:
        term = queries.last_term(connection)
    else:
        refuse_stale(connection, term)
    answers = write_all(connection, commands, term)
    effective = [command for command, answer in zip(commands, answers, strict=True) if answer]
    count(connection, effective)
    _note_changes(connection, effective)
    return answers


def _note_changes(connection: Connection, commands: Iterable[Command]) -> None:
    """Record the jobs that were changed by ``commands``, which have taken effect, and notify the leader."""
    noticed = [command for command in commands if isinstance(command, _NOTICED)]
    if not noticed:
        return
    jobs = [*dict.fromkeys(command.job_id for command in noticed if isinstance(command, _OF_A_JOB))]
    for place in range(0, len(jobs), queries.MAX_PARAMETERS):
        some = jobs[place : place + queries.MAX_PARAMETERS]
        connection.execute(
            f"WITH changed(id) AS (VALUES {', '.join(['(?)'] * len(some))})"
            f" INSERT INTO job_changes SELECT id, (SELECT 1 + {queries.LAST_CHANGE}) FROM changed"
            " WHERE true ON CONFLICT (job_id) DO UPDATE SET number = excluded.number",
            some,
        )
    for statement in connection.dialect.after_change:
        connection.execute(statement)


def prune(connection: Connection, before: int, at_most: int) -> int:
    """Remove up to ``at_most`` rows of each kind older than ``before`` (microseconds); returns how many were removed.

    Keeps ``settled_until``, so that nothing runs twice.
    """
    looked_at = at_most * PRUNE_SCAN_FACTOR
    oldest_claim = f"SELECT {connection.dialect.first_term} FROM runs ORDER BY seq LIMIT 1"
    runs = [
        row[0]
        for row in connection.execute(
            "DELETE FROM runs WHERE seq IN"
            " (SELECT seq FROM (SELECT seq, claimed_at, outcome FROM runs ORDER BY seq LIMIT ?) AS oldest"
            " WHERE claimed_at < ? AND outcome IS NOT NULL ORDER BY seq LIMIT ?) RETURNING seq",
            (looked_at, before, at_most),
        )
    ]
    for which, some in queries.in_parts(runs):
        connection.execute(f"DELETE FROM run_logs WHERE run {which}", some)
    skips = connection.execute(
        "DELETE FROM skips WHERE seq IN"
        " (SELECT seq FROM (SELECT seq, skipped_at FROM skips ORDER BY seq LIMIT ?) AS oldest"
        " WHERE skipped_at < ? ORDER BY seq LIMIT ?)",
        (looked_at, before, at_most),
    ).rowcount
    audited = connection.execute(
        "DELETE FROM audit WHERE seq IN"
        " (SELECT seq FROM (SELECT seq, changed_at FROM audit ORDER BY seq LIMIT ?) AS oldest"
        " WHERE changed_at < ? ORDER BY seq LIMIT ?)",
        (looked_at, before, at_most),
    ).rowcount
    terms = connection.execute(  # terms of dead leaders have no end; those that a run refers to stay
        "DELETE FROM terms WHERE term IN (SELECT term FROM terms WHERE coalesce(ended_at, began_at) < ?"
        f" AND term < (SELECT max(term) FROM terms) AND term < coalesce(({oldest_claim}), term + 1)"
        " ORDER BY term LIMIT ?)",
        (before, at_most),
    ).rowcount
    connection.execute("DELETE FROM requests WHERE done_at < ?", (before,))
    connection.execute("DELETE FROM epochs WHERE until < ?", (before,))
    if runs or skips or terms:
        connection.execute(f"UPDATE pruned SET until = ? WHERE NOT until {CONVERTIBLE} OR until < ?", (before, before))
        forget_jobs(connection, before)
    return len(runs) + skips + audited + terms
