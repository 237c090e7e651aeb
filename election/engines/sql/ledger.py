"""A ledger in SQL. Implements ``election.schedule.ledger.Ledger`` on any database that keeps its transactions apart."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Mapping, Sequence
from datetime import datetime
from typing import Any

from election.core.clock import Clock, SystemClock, since_boot
from election.core.errors import JobDefinitionError, StaleTermError, UnknownJobError
from election.core.process import ProcessIdentity
from election.core.term import Standing, Takeover, Term, ended_by
from election.schedule.catchup import given_up, owes_from
from election.schedule.history import Accounts, Epoch, OddClaim, RunRow, SkipRow, TermRow, Totals, Window
from election.schedule.model import Action, Entry, JobState, OpenRun, RegisterJob, State, StoredJob
from election.schedule.triggers import build

from . import entries as entry_writer
from . import fences, history, windows
from .database import Connection, Database, Row
from .guards import last_term, refuse_stale, refuse_unknown
from .rows import to_us
from .totals import read_totals
from .upkeep import prune


class SqlLedger:
    """A ledger in a database.

    database: where it is, with its tables as the dialect's schema makes them. clock: dates what is written.
    """

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self.database = database
        self._clock = clock or SystemClock()
        self._seen: tuple[Connection, int] | None = None

    def check(self) -> None:
        """A database that is not to hand at a start may be so later, so nothing is asked of it."""

    async def close(self) -> None:
        await self.database.close()

    # --- the leader's ----------------------------------------------------------------------------------------------

    async def last_term(self) -> int:
        return await self.database.read(last_term)

    async def was_fenced(self, term: int) -> bool:
        return await self.database.read(lambda connection: fences.exists(connection, term))

    async def fence(self, term: int, *, pid: int, by_pid: int, silent: float, every: float) -> bool:
        return await self.database.write(
            lambda connection: fences.note(connection, term, pid, by_pid, to_us(self._clock.now()), silent, every)
        )

    async def begin_term(self, term: Term, holder: ProcessIdentity, *, began_ns: int | None = None) -> State:
        row = (
            term.number, holder.pid, holder.host, holder.boot_id, to_us(term.elected_at), began_ns or since_boot(),
            term.takeover.reason, term.takeover.from_pid, term.takeover.vacant_s,
        )  # fmt: skip

        def begin(connection: Connection) -> State:
            refuse_stale(connection, term.number)
            latest = "SELECT term, pid, boot_id, host, standing FROM terms WHERE term <= ? ORDER BY term DESC LIMIT 1"
            found = connection.execute(latest, (term.number,)).fetchone()
            if found is not None and found["term"] < term.number:
                _say_how_it_ended(connection, found, term.takeover)
            elif found is not None and tuple(found)[1:4] != (holder.pid, holder.boot_id, holder.host):
                raise StaleTermError(f"term {term.number} was begun by pid {found['pid']} already")
            connection.execute(
                "INSERT INTO terms (term, pid, host, boot_id, began_at, began_ns, reason, from_pid, vacant_s)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                row,
            )
            self._seen = connection, history.data_version(connection)
            return history.state(connection)

        return await self.database.write(begin)

    async def confirm_term(self, term: int, takeover_ms: float) -> None:
        await self.database.write(
            lambda connection: connection.execute(
                "UPDATE terms SET takeover_ms = ? WHERE term = ?", (round(takeover_ms, 2), term)
            )
        )

    async def end_term(self, term: int, standing: Standing) -> None:
        row = to_us(self._clock.now()), since_boot(), standing, term  # it may take its time to be written
        await self.database.write(
            lambda connection: connection.execute(
                "UPDATE terms SET ended_at = ?, ended_ns = ?, standing = ? WHERE term = ?", row
            )
        )

    def record(self, term: int, entries: Sequence[Entry]) -> Awaitable[list[bool]]:
        def write(connection: Connection) -> list[bool]:
            refuse_stale(connection, term)
            return [entry_writer.write(entry, connection, term) for entry in entries]

        return self.database.written(write)

    async def changes(self) -> State | None:
        def look(connection: Connection) -> State | None:
            now = connection, history.data_version(connection)  # the versions of another connection are no measure
            if now == self._seen:
                return None
            self._seen = now
            return history.state(connection)

        return await self.database.read(look)

    async def prune(self, before: datetime, at_most: int) -> int:
        return await self.database.write(lambda connection: prune(connection, to_us(before), at_most))

    # --- any worker's ----------------------------------------------------------------------------------------------

    async def request(self, action: Action, *, job_id: str | None = None, term: int | None = None) -> int:
        def insert(connection: Connection) -> int:
            if job_id is not None:
                refuse_unknown(connection, job_id)
            made = connection.execute(
                "INSERT INTO requests (action, job_id, term, at) VALUES (?, ?, ?, ?) RETURNING id",
                (action, job_id, term, to_us(self._clock.now())),
            )
            return int(made.fetchone()[0])

        return await self.database.write(insert)

    async def pause(self, job_id: str, paused: bool) -> None:
        now = to_us(self._clock.now())
        change = (
            "paused_at = coalesce(paused_at, ?), resume_at = NULL"
            if paused
            else "resume_at = CASE WHEN paused_at IS NULL THEN NULL ELSE coalesce(resume_at, ?) END"
        )

        def update(connection: Connection) -> None:
            refuse_unknown(connection, job_id)
            connection.execute(f"UPDATE jobs SET {change} WHERE id = ?", (now, job_id))

        await self.database.write(update)

    async def store_job(self, job_id: str, trigger: Mapping[str, Any], job: StoredJob, *, replace: bool) -> None:
        now = self._clock.now()
        row = (job.func, json.dumps(dict(job.kwargs)), json.dumps(dict(job.options)), job_id)

        def insert(connection: Connection) -> None:
            found = history.job(connection, job_id)
            since = now if (built := build(trigger, now)) is None else owes_from(built, now)
            if found is not None and found.retired_at is None and not found.removed:
                if found.stored is None:
                    raise JobDefinitionError(f"there is a job {job_id!r} in the code already; choose another id")
                if not replace:
                    raise JobDefinitionError(f"there is a job {job_id!r} already; choose another id, or replace=True")
                since = max(since, _give_up(connection, found, now))
            elif found is not None:
                since = max(since, found.settled_until)
                connection.execute("UPDATE jobs SET paused_at = NULL, resume_at = NULL WHERE id = ?", (job_id,))
            entry_writer.write(RegisterJob(job_id, trigger, at=now, since=since), connection, 0)
            connection.execute(
                "UPDATE jobs SET func = ?, kwargs = ?, options = ?, removed = 0, broken = NULL WHERE id = ?", row
            )

        await self.database.write(insert)

    async def remove_job(self, job_id: str) -> None:
        now = self._clock.now()

        def remove(connection: Connection) -> None:
            found = history.job(connection, job_id)
            if found is None or found.stored is None or found.removed:
                raise UnknownJobError(f"no job {job_id!r} was added at run time")
            _give_up(connection, found, now)
            entry_writer.close_epoch(connection, job_id, to_us(now))
            connection.execute("UPDATE jobs SET removed = 1 WHERE id = ?", (job_id,))

        await self.database.write(remove)

    # --- history ---------------------------------------------------------------------------------------------------

    async def jobs(self) -> list[JobState]:
        return await self.database.read(history.jobs)

    async def last_outcomes(self) -> dict[str, RunRow]:
        return await self.database.read(history.last_outcomes)

    async def runs(
        self,
        *,
        job_id: str | None = None,
        tag: str | None = None,
        outcome: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[RunRow]:
        return await self.database.read(
            lambda connection: history.runs(connection, job_id, tag, outcome, before, limit)
        )

    async def skips(
        self, *, job_id: str | None = None, tag: str | None = None, before: int | None = None, limit: int = 100
    ) -> list[SkipRow]:
        return await self.database.read(lambda connection: history.skips(connection, job_id, tag, before, limit))

    async def terms(self, *, before: int | None = None, limit: int = 100) -> list[TermRow]:
        return await self.database.read(lambda connection: history.terms(connection, before, limit))

    async def window(self, since: datetime, until: datetime, limit: int) -> Window:
        return await self.database.read(lambda connection: windows.window(connection, since, until, limit))

    async def epochs(self) -> list[Epoch]:
        return await self.database.read(history.epochs)

    async def accounts(self, job_id: str, first: datetime, last: datetime) -> Accounts:
        return await self.database.read(lambda connection: history.accounts(connection, job_id, first, last))

    async def odd_claims(self) -> list[OddClaim]:
        return await self.database.read(history.odd_claims)

    async def open_runs(self) -> list[OpenRun]:
        return await self.database.read(history.open_runs)

    async def totals(self) -> Totals:
        return await self.database.read(read_totals)

    async def pruned_until(self) -> datetime:
        return await self.database.read(history.pruned_until)

    async def integrity(self) -> list[str]:
        return []  # a server looks after its own


def _say_how_it_ended(connection: Connection, before: Row, takeover: Takeover) -> None:
    """Of the term before, where its own leader could not write it down, and the pool knows it all the same."""
    standing = ended_by(takeover)
    if standing is not None and before["standing"] is None and before["pid"] == takeover.from_pid:
        connection.execute(
            f"UPDATE terms SET standing = ?, ended_at = {connection.dialect.greatest}(began_at, ?) WHERE term = ?",
            (standing, to_us(takeover.vacant_since), before["term"]),
        )


def _give_up(connection: Connection, job: JobState, now: datetime) -> datetime:
    """What the job's schedule owed until now will have no run; returns until when it is accounted for."""
    if (over := given_up(job, now)) is None:
        return job.settled_until
    entry_writer.write(over, connection, last_term(connection))
    return over.last_due
