"""Ledger store in SQL, on any database that keeps its transactions apart. Implements ``LedgerStore``."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from datetime import datetime
from typing import Any

from election.core.backend import LatestTerms
from election.schedule.commands import Command
from election.schedule.history import Epoch, JobOverview, RunRow, Totals, Window
from election.schedule.model import JobState, State
from election.schedule.store import Filter, Kind

from . import pool_commands, queries  # noqa: F401  registers its commands
from .commands import refuse_stale, write
from .database import Connection, Database
from .place import is_moved
from .pruning import prune
from .rows import to_us
from .totals import count, read_totals


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
        """Nothing: a server that cannot be reached at a start may be reached later."""

    async def integrity(self) -> list[str]:
        return []  # a server checks its own storage

    async def close(self) -> None:
        await self.database.close()

    def write(self, commands: Sequence[Command], *, term: int | None) -> Awaitable[list[int]]:
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
            since, self._seen, self._last_change = self._last_change, now, queries.last_change(connection)
            return queries.state(connection) if since is None else queries.change(connection, since)

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
    answers = [write(command, connection, term) for command in commands]
    count(connection, (command for command, answer in zip(commands, answers, strict=True) if answer))
    return answers
