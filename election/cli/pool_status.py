"""Status of a pool, read from outside: leader, heartbeat, workers, jobs and latest history.

``status`` reads one, ``watch`` one after the other, on the same connection. Read only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from election.core.backend import describe_problem
from election.core.errors import LedgerError, LedgerVersionError, SeatError
from election.core.process import ProcessIdentity
from election.core.seat import Observation, Worker
from election.core.term import LeaderRecord
from election.engines import Engine
from election.schedule.history import MAX_RUNNING, MAX_SHOWN, RunRow, SkipRow, TermRow, by_job
from election.schedule.ledger_reader import LedgerReader
from election.schedule.model import JobInfo, JobState
from election.schedule.ticks import next_run_time
from election.schedule.triggers import build, job_trigger_text, unbuilt_text
from election.schedule.upcoming import zone_name

from .open_pool import explained, without_history

STALLED_AFTER_S = 3.0
"""Seconds without a heartbeat after which a leader counts as unresponsive; the default of ``Election``."""


POLL_INTERVAL_S = 0.02
"""Seconds between two polls for a heartbeat."""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """State of a job in the ledger. ``retired``: it is no longer in the code. ``last_…``: of its latest run.

    last_late_ms: milliseconds from the due time to the start of its code. running: runs that have not ended;
    running_since: when the oldest of them was claimed. timezone: that of the trigger; None for elapsed
    time.
    """

    id: str
    name: str
    description: str | None
    tags: tuple[str, ...]
    trigger: str
    next_run_time: datetime | None
    paused: bool
    retired: bool
    removed: bool
    broken: str | None
    last_due: datetime | None
    last_outcome: str | None
    last_late_ms: float | None
    running: int
    running_since: datetime | None
    timezone: str | None = None


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """Status of a pool. ``record``: the latest leader record. ``led``: whether that leader still leads.

    silent_s: seconds since its last observed heartbeat, or since the first read; None without a leader. beats: whether
    a heartbeat was observed at all. jobs: of many, those of the code and those due soonest. more_jobs: number of
    others; None for those with a tag, if there are more of them. jobs_total: number of jobs in the pool, without those
    that have left the code. trouble: text of a problem of the pool. unread: text why the jobs cannot be read. Both are
    None without a problem.
    """

    engine: str
    pool: str
    record: LeaderRecord | None
    led: bool
    silent_s: float | None
    beats: bool
    workers: tuple[Worker, ...]
    jobs: tuple[JobStatus, ...]
    trouble: str | None
    unread: str | None
    more_jobs: int | None = 0
    jobs_total: int = 0

    @property
    def responsive(self) -> bool | None:
        """Whether the leader is responsive, as ``/leader`` reports it; None while unknown, and without a leader."""
        if self.silent_s is None:
            return None
        if self.silent_s >= STALLED_AFTER_S:
            return False
        return True if self.beats else None

    def named(self, process: ProcessIdentity) -> str:
        """The pid of a worker, and its host if the pool has more than one."""
        others = {worker.process.host for worker in self.workers} | (
            {self.record.holder.host} if self.record else set()
        )
        return str(process.pid) if len(others | {process.host}) == 1 else f"{process.pid} on {process.host}"

    def document(self) -> dict[str, object]:
        """The status for machines, with the field names of ``GET /leader``."""
        holder = self.record.holder if self.record and self.led else None
        roles = [(worker, "leader" if worker.process == holder else "follower") for worker in self.workers]
        return {
            "pool": self.pool,
            "engine": self.engine,
            "state": "led" if self.led else "electing",
            "leader": self._leader(),
            "workers": [
                {
                    "pid": one.process.pid,
                    "host": one.process.host,
                    "role": role,
                    "started_at": one.started_at,
                    "candidate": one.candidate,
                }
                for one, role in roles
            ],
            "jobs": self.jobs,
            "jobs_total": self.jobs_total,
            "problem": self.trouble or self.unread,
        }

    def _leader(self) -> dict[str, object] | None:
        if self.record is None or self.silent_s is None:
            return None
        return {
            "pid": self.record.holder.pid,
            "host": self.record.holder.host,
            "term": self.record.term,
            "elected_at": self.record.elected_at,
            "heartbeat_age_s": round(self.silent_s, 2),
            "responsive": self.responsive,
            "queued": self.record.queued,
        }


@dataclass(frozen=True, slots=True)
class RecentHistory:
    """The latest runs, skips and terms, latest first."""

    runs: tuple[RunRow, ...] = ()
    skips: tuple[SkipRow, ...] = ()
    terms: tuple[TermRow, ...] = ()


class StatusReader:
    """Polls the status of one pool, until ``close``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ledger = engine.open_reader()
        self._silent: float | None = None
        self._beats = False

    async def close(self) -> None:
        """Close the ledger."""
        await self._ledger.close()

    async def read_leader(self) -> Observation:
        """Read only the leader; the next ``look`` reports whether a heartbeat was observed."""
        try:
            await self._engine.look()
            seen = await self._engine.seat.observe()
        except SeatError as error:
            seen = Observation(None, False, None, str(error))
        silent = seen.heartbeat_age_s if seen.led else None
        self._beats = silent is not None and (self._beats or (self._silent is not None and silent < self._silent))
        self._silent = silent
        return seen

    async def wait_for_heartbeat(self) -> None:
        """Poll the leader until a heartbeat is observed, or the leader counts as unresponsive.

        A single read cannot distinguish a live leader from a hung one. Returns at once if nobody leads.
        """
        await self.read_leader()
        while not self._beats and self._silent is not None and self._silent < STALLED_AFTER_S:
            await asyncio.sleep(POLL_INTERVAL_S)
            await self.read_leader()

    async def look(self, tag: str | None = None) -> PoolStatus:
        """Status of the pool, with the jobs that have ``tag``; its ``trouble`` and ``unread`` report errors."""
        jobs, more, total, unread = await self._jobs(tag)
        seen = await self.read_leader()
        led = seen.led and seen.record is not None and self._silent is not None
        workers = tuple(await self._engine.seat.workers())
        return PoolStatus(
            engine=self._engine.name,
            pool=self._engine.pool,
            record=seen.record,
            led=led,
            silent_s=self._silent,
            beats=self._beats,
            workers=workers,
            jobs=jobs,
            more_jobs=more,
            jobs_total=total,
            trouble=self._engine.missing() or seen.problem or describe_problem(workers),
            unread=unread,
        )

    async def recent(self, tag: str | None, limit: int) -> RecentHistory:
        """The latest history, ``limit`` entries of each kind at most; empty if it cannot be read."""
        try:
            runs = await self._ledger.runs(tag=tag, limit=limit)
            skips = await self._ledger.skips(tag=tag, limit=limit)
            terms = await self._ledger.terms(limit=limit)
        except (LedgerError, LedgerVersionError):  # the status reports it
            return RecentHistory()
        return RecentHistory(tuple(runs), tuple(skips), tuple(terms))

    async def _jobs(self, tag: str | None) -> tuple[tuple[JobStatus, ...], int | None, int, str | None]:
        """The jobs to show, the number of others, the total number, and why they cannot be read."""
        try:
            overview = await self._ledger.overview()
            shown: Sequence[JobState] = overview.jobs
            here = sum(job.retired_at is None for job in shown)
            more: int | None = overview.total - here
            if tag is not None:
                tagged = await self._ledger.search_jobs(tag=tag, limit=MAX_SHOWN + 1)
                shown, more = tagged[:MAX_SHOWN], None if len(tagged) > MAX_SHOWN else 0
            found = await job_statuses(self._ledger, shown)
            unread = None if overview.jobs else await without_history(self._engine, self._ledger)
        except LedgerError as error:
            return (), 0, 0, await explained(self._engine, error)
        except LedgerVersionError as error:
            return (), 0, 0, str(error)
        return tuple(found), more, overview.total, unread


async def job_statuses(ledger: LedgerReader, jobs: Sequence[JobState]) -> list[JobStatus]:
    """Jobs with their latest runs. Raises ``LedgerError`` or ``LedgerVersionError``."""
    last = await ledger.last_outcomes([job.id for job in jobs])
    running = by_job(await ledger.runs(outcome="running", limit=MAX_RUNNING))
    return [_job_status(job, last.get(job.id), running.get(job.id, ())) for job in jobs]


def _job_status(job: JobState, last: RunRow | None, running: Sequence[RunRow]) -> JobStatus:
    trigger = build(job.trigger, job.scheduled_since)
    info = job.info or JobInfo(job.id)
    return JobStatus(
        id=job.id,
        name=info.name,
        description=info.description,
        tags=info.tags,
        trigger=job_trigger_text(trigger, job) if trigger else unbuilt_text(job.trigger),
        next_run_time=next_run_time(job, trigger),
        paused=job.paused,
        retired=job.retired_at is not None,
        removed=job.removed,
        broken=job.broken,
        last_due=last.due if last else None,
        last_outcome=(last.outcome or "running") if last else None,
        last_late_ms=late_ms(last) if last else None,
        running=len(running),
        running_since=min((run.claimed_at for run in running), default=None),
        timezone=zone_name(trigger),
    )


def late_ms(run: RunRow) -> float:
    """Milliseconds from a run's due time to the start of its code; to its claim if the start is unknown."""
    return round(((run.started_at or run.claimed_at) - run.due).total_seconds() * 1000, 1)
