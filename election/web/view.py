"""Status of the pool for the document of ``GET /leader``: only reads, and never waits for a lock (P8)."""

from __future__ import annotations

import asyncio
import operator
import os
import re
import reprlib
import socket
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Generic, ParamSpec, TypeVar

from election.core.backend import describe_problem
from election.core.clock import Clock, ends_within, first
from election.core.errors import LedgerError, LedgerVersionError
from election.core.events import named
from election.core.logs import log
from election.core.seat import Observation, Seat
from election.schedule.history import MAX_RUNNING, MAX_SHOWN, JobOverview, RunRow, by_job
from election.schedule.job_info import name_few
from election.schedule.jobs import Job, JobRegistry
from election.schedule.ledger import Ledger
from election.schedule.model import JobInfo, JobState
from election.schedule.plan import NOT_IN_THIS_CODE
from election.schedule.stored import check_run
from election.schedule.ticks import next_run_time
from election.schedule.triggers import build, job_trigger_text
from election.schedule.upcoming import zone_name

from . import models

_P = ParamSpec("_P")
_R = TypeVar("_R")

MAX_AGE_S = 0.5
"""Seconds for which the jobs that were read from the ledger are cached."""

PLANNED_AFTER = timedelta(seconds=2)
"""Time after an election in which the leader has surely written the jobs of its code to the ledger."""

NO_CANDIDATE = "nobody leads, because every worker takes part with candidate=False; start one that may lead"

TIMEOUT_S = 0.5
"""Seconds that an answer waits for the ledger at most; then it contains the cached jobs."""

SECRET = re.compile("passw|secret|token|credential|api_?key|private_?key", re.IGNORECASE)
"""Names of arguments whose values are not shown."""

HIDDEN = "(hidden)"
"""Text in the place of a value that is not shown."""

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 300


class PoolView:
    """One worker's view of its pool, which all routes share.

    ``use`` names the pool, also after the routes were built: a test puts a pool in memory in the place of the real one.

    Args:
        registry: Jobs of the code.
        clock: Time of the documents.
        stalled_after: Seconds without a heartbeat that make a leader unresponsive.
        started: Returns whether this worker takes part.
        problem: Returns the error of this worker; None if there is none.

    Attributes:
        seat: Seat of the pool.
        ledger: Ledger of the pool.
    """

    seat: Seat
    ledger: Ledger

    def __init__(
        self,
        registry: JobRegistry,
        *,
        clock: Clock,
        stalled_after: float,
        started: Callable[[], bool],
        problem: Callable[[], str | None],
    ) -> None:
        self.clock = clock
        self.stalled_after = stalled_after
        self._registry = registry
        self._started = started
        self._problem = problem
        self._pool = self._engine = ""
        self._jobs: list[models.JobEntry] = []
        self._jobs_total = 0
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        self._reading: set[asyncio.Task[Any]] = set()
        self._silence: str | None = None
        self._difference: str | None = None
        self._last_takeover = Unchanged(models.last_takeover)
        self._workers = Unchanged(models.workers)

    def use(self, pool: str, engine: str, seat: Seat, ledger: Ledger) -> None:
        """Show this pool from now on; ``pool`` and ``engine`` are names."""
        self._pool, self._engine, self.seat, self.ledger = pool, engine, seat, ledger
        self._jobs, self._asked_at, self._silence, self._difference = [], float("-inf"), None, None

    @property
    def names(self) -> tuple[str, str]:
        """Names of the pool and of its engine."""
        return self._pool, self._engine

    def read(self, reading: Coroutine[Any, Any, _R], name: str) -> asyncio.Task[_R]:
        """Read from the ledger in a task, which ends at the latest with ``close``."""
        task = asyncio.create_task(reading, name=name)
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)
        return task

    async def close(self) -> None:
        """Cancel the reads under way, which would reopen the ledger that is about to be closed."""
        for task in self._reading:
            task.cancel()
        if self._reading:
            await first(asyncio.wait(self._reading), self.clock.sleep(TIMEOUT_S))
        self._reading.clear()

    def shown(self) -> list[str]:
        """Ids of the jobs in the document."""
        return [job.id for job in self._jobs]

    def absence(self) -> str | None:
        """Why this worker has no view of the pool, in words; None if it takes part."""
        return None if self._started() else self._problem()

    async def document(self) -> models.LeaderDocument:
        """Return the leader document, as this worker sees it."""
        if self._started():
            await self._refresh_jobs()  # first, so that nothing below is older than the answer
        seen = await self.seat.observe() if self._started() else None
        leading = models.leader(seen, stalled_after=self.stalled_after) if seen else None
        held = self.seat.held() if seen else None
        workers = await self.seat.workers() if seen else []
        return models.LeaderDocument(
            pool=self._pool,
            engine=self._engine,
            state="led" if leading else "electing",
            leader=leading,
            answered_by=models.AnsweredBy(
                pid=os.getpid(), host=socket.gethostname(), role="leader" if held else "follower"
            ),
            workers=self._workers(workers, seen.record if leading else None) if seen else [],
            last_takeover=self._last_takeover(seen.record if seen else None),
            jobs=self._jobs if seen else [],
            jobs_total=self._jobs_total if seen else 0,
            problem=(seen.problem if seen else None)
            or self._problem()
            or describe_problem(workers)
            or ((self._silence or self._difference) if seen else None)
            or (NO_CANDIDATE if workers and not leading and not any(worker.candidate for worker in workers) else None),
        )

    async def _refresh_jobs(self) -> None:
        """Read the jobs from the ledger, once for all requests, unless just read; do not wait for long."""
        if self._asking is None or self._asking.done():
            if self.clock.monotonic() - self._asked_at < MAX_AGE_S:
                return
            self._asked_at = self.clock.monotonic()
            self._asking = self.read(self._read_jobs(), "election view")
        asking = self._asking
        if await ends_within(asking, self.clock, TIMEOUT_S):
            asking.result()  # an unexpected error is not hidden

    async def _read_jobs(self) -> None:
        if not self._jobs:  # the code's own jobs are shown all the same
            self._show(JobOverview([], [], {}, 0), {})
        seen = await self.seat.observe()
        term = _planned_term(seen, self.clock.now())  # first: the jobs are then those of its plan, or later
        try:
            overview = await self.ledger.overview()
            running = by_job(await self.ledger.runs(outcome="running", limit=MAX_RUNNING))
        except (LedgerError, LedgerVersionError) as error:
            self._silence = str(error)
            self._jobs = [entry.model_copy(update={"next_run_time": None}) for entry in self._jobs]
        else:
            self._silence = None
            self._show(overview, running)
            await self._compare(overview.code_ids, term)

    async def _compare(self, known: Mapping[str, str | None], term: int | None) -> None:
        """Note whether this worker's code has other jobs than that of the leader of ``term``, which planned them."""
        record = (await self.seat.observe()).record
        if term is None or record is None or record.term != term or not self.seat.candidate:
            return
        difference = describe_difference(
            {job.id for job in self._registry}, known, f"the leader (pid {record.holder.pid} on {record.holder.host})"
        )
        if difference is not None and self._difference is None:
            log.warning("%s", difference, extra=named("jobs_differ"))
        self._difference = difference

    def _show(self, overview: JobOverview, running: Mapping[str, Sequence[RunRow]]) -> None:
        """Make the entries: of this worker's code in its order, then those that were added at run time, by id."""
        known = {state.id: state for state in overview.jobs}
        ours = {job.id for job in self._registry}
        of_code = [job.id for job in self._registry if job.id in known or job.id not in overview.code_ids]
        others = {state.id for state in overview.stored}
        others |= {state.id for state in overview.code if state.broken == NOT_IN_THIS_CODE and not state.retired_at}
        ids = [*of_code[:MAX_SHOWN], *sorted(others - ours)]
        self._jobs = self.entries([known.get(job_id) or job_id for job_id in ids], running)
        self._jobs_total = overview.total + len(ours - overview.code_ids.keys() - others)

    def check_run(self, job_id: str, kwargs: Mapping[str, Any]) -> bool:
        """Return whether the code has the job. Raises ``JobDefinitionError`` for arguments that it cannot have."""
        return check_run(self._registry, job_id, kwargs)

    def entries(self, jobs: Iterable[JobState | str], running: Mapping[str, Sequence[RunRow]]) -> list[models.JobEntry]:
        """Entries of jobs, given by their state in the ledger, or by the id of one that is not in the ledger yet.

        running: open runs by the job's id.
        """
        ours, now = {job.id: job for job in self._registry}, self.clock.now()
        entries = []
        for each in jobs:
            job_id, state = (each, None) if isinstance(each, str) else (each.id, each)
            entries.append(_entry(job_id, ours.get(job_id), state, running.get(job_id, ()), now))
        return entries

    def arguments(self, job: JobState) -> dict[str, str]:
        """Arguments of a job's runs, as text."""
        known = self._registry.get(job.id)
        if known is not None:
            return describe_arguments(known.args, known.kwargs)
        return describe_arguments((), job.stored.kwargs) if job.stored else {}


class Unchanged(Generic[_P, _R]):
    """Cache of a function's last result, which is returned again while every argument is the same object.

    Most parts of a document have not changed since the last request, and building them is most of its cost.
    """

    def __init__(self, function: Callable[_P, _R]) -> None:
        self._function = function
        self._last: tuple[tuple[object, ...], _R] | None = None

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        if self._last is None or not all(map(operator.is_, args, self._last[0])):
            self._last = args, self._function(*args, **kwargs)
        return self._last[1]


def _entry(
    job_id: str, job: Job | None, state: JobState | None, running: Sequence[RunRow], now: datetime
) -> models.JobEntry:
    """job: None for one that was added at run time. state: None for one that is not in the ledger yet."""
    trigger = (build(state.trigger, state.scheduled_since) if state else None) or (job.trigger if job else None)
    info = (job.info if job else state.info if state else None) or JobInfo(job_id)
    return models.JobEntry(
        id=job_id,
        name=info.name,
        description=info.description,
        tags=list(info.tags),
        trigger=job_trigger_text(job.trigger if job else trigger, state),
        timezone=zone_name(trigger),
        next_run_time=next_run_time(state, trigger) if state else None,
        paused=state is not None and state.paused,
        broken=state.broken if state else None,
        running=len(running),
        running_since=min((run.claimed_at for run in running), default=None),
    )


def describe_arguments(args: Iterable[object], kwargs: Mapping[str, object]) -> dict[str, str]:
    """Return arguments by name as Python writes them, shortened; the values of those named like a secret are hidden."""
    named_args = {f"args[{place}]": value for place, value in enumerate(args)} | dict(kwargs)
    return {name: HIDDEN if SECRET.search(name) else _REPR.repr(value) for name, value in named_args.items()}


def _planned_term(seen: Observation, now: datetime) -> int | None:
    """Return the number of the term, if its leader has written down its jobs by ``now``; None otherwise."""
    record = seen.record
    if not seen.led or record is None or record.takeover.takeover_ms is None:
        return None
    return record.term if now - record.elected_at >= PLANNED_AFTER else None


def describe_difference(ours: Collection[str], known: Mapping[str, str | None], leader: str) -> str | None:
    """Return how the jobs of this worker's code differ from those of the leader's, in words; None if they do not.

    Args:
        ours: Ids of the jobs of this worker's code.
        known: Jobs of the leader's code by the ledger, and why each cannot be run, or None.
        leader: Leader, in words.
    """
    theirs = {job_id for job_id, broken in known.items() if broken != NOT_IN_THIS_CODE}
    only_here, only_there = set(ours) - theirs, theirs - set(ours)
    if not only_here and not only_there:
        return None
    parts = [f"{where}: {name_few(ids)}" for where, ids in (("here", only_here), ("there", only_there)) if ids]
    return (
        f"this worker's code has other jobs than that of {leader}, and only the leader's jobs run (only"
        f" {'; only '.join(parts)}); this is normal during a deploy; if two applications share this pool, give each one"
        " a pool of its own"
    )
