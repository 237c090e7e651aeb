"""Ledger of a pool: the rules for writes and refusals, in one place above any store (``store.py``).

Promises P3 and P4 rest on the store's two rules. A change that needs a read, a decision and a write is written under
the condition that nothing has changed meanwhile, and retried if it has. Times are UTC.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from itertools import chain
from typing import Any, cast

from apscheduler.triggers.base import BaseTrigger

from election.core.clock import EPOCH, Clock, SystemClock, since_boot
from election.core.errors import JobDefinitionError, LedgerError, LedgerVersionError, UnknownJobError
from election.core.logs import log
from election.core.process import ProcessIdentity
from election.core.term import Standing, Term, ended_by

from .audit import (
    describe_pause,
    describe_removal,
    describe_request,
    describe_reschedule,
    describe_stored,
    identify,
)
from .catchup import given_up, owes_from
from .commands import (
    AcceptTime,
    AddAuditEntry,
    AddRequest,
    Adopt,
    BeginTerm,
    Command,
    ConfirmTerm,
    EndTerm,
    Entry,
    Fence,
    PauseJob,
    RegisterJob,
    RemoveJob,
    RequireJob,
    RescheduleJob,
    ResumeJob,
    SetNextDue,
    SettleFormerTerm,
    StoreJob,
)
from .history import RunRow
from .job_changes import MAX_JOBS_PER_WRITE, JobChanges
from .job_info import new_description
from .jobs import check_id
from .ledger_reader import LedgerReader
from .model import Action, AuditAction, JobState, NewJob, State, StoredJob, Tick
from .requests import name_tick
from .store import LedgerStore, UnmetConditionError
from .ticks import first_after, with_seed
from .triggers import build

PRUNE_INTERVAL_S = 60.0
"""Seconds between two removals of old history."""

ROWS_PER_PRUNE = 500
"""Rows that are removed in one step: a small one, so that no claim waits long."""

PRUNE_PAUSE_S = 0.1
"""Seconds between two such steps."""


class IfExists(StrEnum):
    """Treatment of a new job if one was added at run time under its id."""

    ERROR = "error"
    KEEP = "keep"
    REPLACE = "replace"


class Ledger(LedgerReader):
    """Ledger with its writes, which are the leader's unless a method is documented for any worker.

    Args:
        store: Storage of the ledger.
        clock: Clock that dates the writes.
    """

    def __init__(self, store: LedgerStore, clock: Clock | None = None) -> None:
        super().__init__(store)
        self._clock = clock or SystemClock()
        self._changes = JobChanges(store)

    def check(self) -> None:
        """Raise ``LedgerVersionError`` if this code cannot read the ledger. Opens nothing that stays open."""
        self.store.check()

    async def fence(self, term: int, *, pid: int, by_pid: int, silent: float, every: float) -> bool:
        """Write the intent to fence a term's leader, before the fence; from any worker.

        silent: seconds without a heartbeat. every: seconds in which there is one intent at most; returns whether this
        one was written.
        """
        now, interval = self._clock.now(), timedelta(seconds=every)
        intent = Fence(term, pid, by_pid, round(silent, 3), now, now - interval, now + interval)
        return bool((await self.store.write([intent], term=None))[0])

    async def begin_term(self, term: Term, holder: ProcessIdentity, *, began_ns: int | None = None) -> State:
        """Begin the term and read the state. Repeating it for the same term is allowed (a ledger that was lost).

        The takeover shows how the term before ended, in case its own leader could not write that. began_ns: when
        it began, in nanoseconds since boot, by which terms are ordered; now, unless the ledger was out of reach then.
        Raises ``StaleTermError`` if a later term has begun.
        """
        commands: list[Command] = [BeginTerm(term, holder, began_ns or since_boot())]
        takeover = term.takeover
        if (standing := ended_by(takeover)) is not None:
            commands.append(SettleFormerTerm(term.number, takeover.from_pid, standing, takeover.vacant_since))
        return await self.store.begin(commands, term=term.number)

    async def confirm_term(self, term: int, takeover_ms: float) -> None:
        """Write how long the takeover took, in milliseconds."""
        await self.store.write([ConfirmTerm(term, round(takeover_ms, 2))], term=None)

    async def end_term(self, term: int, standing: Standing) -> None:
        """Write how the term ended."""
        await self.store.write([EndTerm(term, self._clock.now(), since_boot(), standing)], term=None)

    def record(self, term: int, entries: Sequence[Entry]) -> Awaitable[list[bool]]:
        """Write all entries in one transaction, in order; for each, whether it took effect (a claim: was granted).

        The result may be a future that is done already. Raises ``StaleTermError`` if a later term has begun; then
        nothing was written.
        """
        return cast("Awaitable[list[bool]]", self.store.write(entries, term=term))

    async def changes(self) -> State | None:
        """Read what has changed if another process has written since the last call; otherwise None."""
        return await self.store.changes()

    async def prune(self, before: datetime, at_most: int) -> int:
        """Remove up to ``at_most`` rows of history older than ``before``; returns how many were removed."""
        return await self.store.prune(before, at_most)

    async def keep_pruned(self, retention: timedelta | None) -> None:
        """Remove history older than ``retention`` from time to time, for ever; return at once if it is None."""
        while retention is not None:
            await self._clock.sleep(PRUNE_INTERVAL_S)
            try:
                now = self._clock.now()
                before = now - min(retention, now - EPOCH)  # longer than there are dates: for ever
                while await self.prune(before, ROWS_PER_PRUNE) >= ROWS_PER_PRUNE:
                    await self._clock.sleep(PRUNE_PAUSE_S)
            except (LedgerError, LedgerVersionError) as error:
                log.debug("old history was not removed: %s", error)  # claims meet the same error, which is logged

    async def request(
        self,
        action: Action,
        *,
        job_id: str | None = None,
        term: int | None = None,
        kwargs: Mapping[str, Any] | None = None,
        is_known: bool = False,
        by: str | None = None,
    ) -> int:
        """Request an action of the leader, from any worker.

        Args:
            action: The action.
            job_id: Id of the job to run.
            term: Number of the term whose leader is to resign.
            kwargs: Arguments of the run, in place of the job's own arguments with these names; JSON.
            is_known: Whether the code has the job, which may not be in the ledger yet.
            by: Who requests it, for the audit trail, as with every change; by default this process.

        Returns:
            The number of the request.

        Raises:
            UnknownJobError: The pool has no such job.
        """
        now = self._clock.now()
        asked = AddRequest(action, job_id, term, now, kwargs)
        entry = describe_request(action, identify(by), now, job_id=job_id, term=term, kwargs=kwargs)
        if job_id is None or is_known:
            return (await self.store.write([asked, entry], term=None))[0]
        return await self._write_known(job_id, asked, entry)

    async def request_cancellation(self, run: RunRow, *, by: str | None = None) -> int:
        """Request the cancellation of a run, from any worker; returns the request's number."""
        tick = Tick(run.job_id, run.due, run.request)
        return await self.request(Action.CANCEL, job_id=run.job_id, kwargs=name_tick(tick), is_known=True, by=by)

    async def record_resignation(self, term: int, *, by: str | None = None) -> None:
        """Record who made the leader of a term resign without a request."""
        now = self._clock.now()
        entry = AddAuditEntry(AuditAction.RESIGN, None, identify(by), now, before=f"term {term}")
        await self.store.write([entry], term=None)

    async def pause(self, job_id: str, paused: bool, *, by: str | None = None) -> None:
        """Pause or resume a job from now on, from any worker. Raises ``UnknownJobError``."""
        now = self._clock.now()
        change = PauseJob(job_id, now) if paused else ResumeJob(job_id, now)
        await self._write_known(job_id, change, describe_pause(job_id, paused, identify(by), now))

    async def pause_tagged(self, tag: str, paused: bool, *, by: str | None = None) -> list[str]:
        """Pause or resume all jobs with a tag, from any worker; many in several transactions.

        Returns:
            Ids of the jobs, those that were paused already among them.

        Raises:
            UnknownJobError: No job has the tag.
        """
        command, who = PauseJob if paused else ResumeJob, identify(by)
        changed: list[str] = []
        while some := await self.search_jobs(tag=tag, after=changed[-1] if changed else "", limit=MAX_JOBS_PER_WRITE):
            now = self._clock.now()
            pairs = ((command(each.id, now), describe_pause(each.id, paused, who, now, tag=tag)) for each in some)
            await self.store.write([*chain.from_iterable(pairs)], term=None)
            changed += [job.id for job in some]
        if not changed:
            raise UnknownJobError(f"no job in this pool has the tag {tag!r}")
        return changed

    async def store_job(
        self,
        job_id: str,
        trigger: Mapping[str, Any],
        job: StoredJob,
        *,
        if_exists: IfExists = IfExists.ERROR,
        by: str | None = None,
    ) -> None:
        """Add a job at run time, from any worker; see ``store_jobs``."""
        await self.store_jobs([NewJob(job_id, trigger, job)], if_exists=if_exists, by=by)

    async def store_jobs(
        self, jobs: Sequence[NewJob], *, if_exists: IfExists = IfExists.ERROR, by: str | None = None
    ) -> None:
        """Add jobs at run time, from any worker; many in several transactions, one after the other.

        A job with the same trigger as the one that it replaces keeps its schedule, and one that is the same is left
        alone: storing the same jobs at every start changes nothing. Raises ``JobDefinitionError`` if an id is taken; of
        the jobs before it, those of other transactions may have been added.
        """
        who = identify(by)
        for place in range(0, len(jobs), MAX_JOBS_PER_WRITE):
            some, now = jobs[place : place + MAX_JOBS_PER_WRITE], self._clock.now()
            await self._changes.make({job.id: partial(_store, job, now, if_exists, who) for job in some})

    async def modify_job(
        self, job_id: str, change: Callable[[JobState], NewJob | RescheduleJob], *, by: str | None = None
    ) -> None:
        """Change a job of the pool, from any worker.

        Args:
            job_id: Id of the job.
            change: Returns the changed job, or the new trigger of one of the code. Its exceptions are passed on.
            by: See ``request``.

        Raises:
            UnknownJobError: The pool has no such job, or no leader has seen it yet.
        """
        now, who = self._clock.now(), identify(by)
        _refuse_unknown(job_id)

        def plan(found: JobState | None) -> list[Command]:
            if found is None or found.removed or found.retired_at is not None:
                raise UnknownJobError(f"there is no job {job_id!r} in this pool, or no leader has seen it yet")
            made = change(found)
            if isinstance(made, RescheduleJob):
                return [made, describe_reschedule(found, made, who, now)]
            return _store(made, now, IfExists.REPLACE, who, found)

        await self._changes.make({job_id: plan})

    async def remove_job(self, job_id: str, *, by: str | None = None) -> None:
        """Remove a job that was added at run time; its history stays. Raises ``UnknownJobError``."""
        now, who = self._clock.now(), identify(by)
        _refuse_unknown(job_id)

        def plan(found: JobState | None) -> list[Command]:
            if found is None or found.stored is None or found.removed:
                raise UnknownJobError(
                    f"no job {job_id!r} was added at run time; take a job of the code out of the code, or pause it:"
                    f" election.jobs.pause({job_id!r})"
                )
            before, _until = _give_up(found, now)
            return [*before, RemoveJob(job_id, now), describe_removal(found, found.stored, who, now)]

        await self._changes.make({job_id: plan})

    async def accept_time(self, *, by: str | None = None) -> list[str]:
        """Let jobs go on from now whose ticks were settled by a clock that was ahead; from any worker, or the CLI.

        Their schedules begin anew, as if they were registered now. A tick that was claimed stays claimed (P3), also one
        that falls due again. Returns the ids of these jobs.
        """
        now, who = self._clock.now(), identify(by)

        def plan(found: JobState | None) -> list[Command]:
            if found is None or found.settled_until <= now:
                return []
            times = found.settled_until.isoformat(), now.isoformat()
            accept, entry = (
                AcceptTime(found.id, now),
                AddAuditEntry(AuditAction.ACCEPT_TIME, found.id, who, now, *times),
            )
            if found.retired_at is not None or found.removed:
                return [accept, entry]
            return [accept, entry, RegisterJob(found.id, found.trigger, at=now, since=now)]

        ahead = [job.id for job in await self.jobs(removed=True) if job.settled_until > now]
        for job_id in ahead:
            await self._changes.make({job_id: plan})
        return ahead

    async def adopt(self, *, by: str | None = None) -> bool:
        """Accept a copied or restored ledger as the original; from any worker, and the command line.

        If it is adopted before its first term here, its owed ticks are run here. Returns whether it was a copy.
        """
        entry = AddAuditEntry(AuditAction.ADOPT, None, identify(by), self._clock.now())
        return await self.store.is_moved() and bool((await self.store.write([Adopt(), entry], term=None))[0])

    async def close(self) -> None:
        """Close the ledger; using it again opens it again."""
        try:
            await self._changes.close()
        finally:
            await super().close()

    async def _write_known(self, job_id: str, *commands: Command) -> int:
        """Write commands about a job that has to be in the pool; returns the answer to the first."""
        _refuse_unknown(job_id)
        try:
            return (await self.store.write([RequireJob(job_id), *commands], term=None))[1]
        except UnmetConditionError as error:
            raise UnknownJobError(f"there is no job {job_id!r} in this pool") from error


def _refuse_unknown(job_id: str) -> None:
    """Raise ``UnknownJobError`` for an id that no job can have, and that not every store can look up."""
    try:
        check_id(job_id)
    except JobDefinitionError as error:
        raise UnknownJobError(f"there is no such job in this pool: {error}") from None


def _store(job: NewJob, now: datetime, if_exists: IfExists, by: str, found: JobState | None) -> list[Command]:
    """Return the commands that add a job, or that replace the one that was found under its id."""
    in_use = found is not None and found.retired_at is None and not found.removed
    built = build(job.trigger, now)
    entry = partial(describe_stored, found if in_use else None, job, by, now, built)
    since = now if built is None else owes_from(built, now, is_new=not in_use)
    before: list[Command] = []
    if found is not None and in_use:
        if found.stored is None:
            raise JobDefinitionError(f"there is a job {job.id!r} in the code already; choose another id")
        if if_exists is IfExists.KEEP:
            return []
        if if_exists is IfExists.ERROR:
            raise JobDefinitionError(
                f'there is a job {job.id!r} already; choose another id, or replace=True, or if_exists="keep"'
            )
        if found.trigger == job.trigger:  # the same schedule goes on, and keeps its owed ticks
            if found.stored == job.stored:
                return []
            return [StoreJob(job.id, job.stored, keep_pause=True), *new_description(job, found), entry()]
        before, until = _give_up(found, now)
        since = max(since, until)
    elif found is not None:
        since = max(since, found.settled_until)
    register = RegisterJob(job.id, job.trigger, at=now, since=since)
    store = StoreJob(job.id, job.stored, keep_pause=in_use)
    return [*before, register, store, *new_description(job, found), *_hint(job.id, built, since), entry()]


def _give_up(job: JobState, now: datetime) -> tuple[list[Command], datetime]:
    """Return the skip of the ticks that a job's schedule owed until now, if any, and until when it is then settled."""
    over = given_up(job, now)
    return ([], job.settled_until) if over is None else ([over], over.last_due)


def _hint(job_id: str, trigger: BaseTrigger | None, since: datetime) -> list[Command]:
    """First due time of a job that is being added; nothing if it cannot be computed here."""
    with contextlib.suppress(BaseException):  # of a trigger; the leader reports it
        due = None if trigger is None else first_after(with_seed(trigger, job_id), since)
        return [] if due is None else [SetNextDue(job_id, due)]
    return []
