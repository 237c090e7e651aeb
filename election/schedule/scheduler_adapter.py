"""Adapter of the ``AsyncIOScheduler`` of one term: when each job goes on, and which ticks are left out together.

APScheduler's own rules (misfire, coalesce, max_instances) are switched off here: the executor applies them, and
accounts for each tick.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from apscheduler.executors.base import BaseExecutor
from apscheduler.job import Job as SchedulerJob
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.schedulers.base import STATE_PAUSED
from apscheduler.triggers.base import BaseTrigger

from election.core.clock import Clock, Timer, call_later
from election.core.logs import guard

from . import catchup
from .progress import JobProgress, Jump
from .ticks import SHORTEST_INTERVAL, TriggerError, first_after

MAX_SLEEP_S = 1.0
"""Longest sleep between two looks at the wall clock, which may be set, or go on while the machine is suspended."""

MAX_HANDED_OVER = 1000
"""Jobs that are handed over, and claimed, in one turn of the event loop, which serves nothing else meanwhile."""


MAX_TICKS = 1000
"""Ticks of one job that are handed over in one turn of the event loop."""


def _run_by_the_executor() -> None:
    """Placeholder of the job's function, which the executor calls: its arguments were checked at its registration."""


class PureTrigger(BaseTrigger):  # type: ignore[misc]  # APScheduler 3 has no types
    """Trigger for a term's scheduler: its next tick depends on the last one only, not on the time of the query.

    So the scheduler, a catch-up and ``verify`` see the same ticks, and a clock that steps back makes none twice. A
    scheduler that wakes long after a tick (its machine was asleep) jumps over the ticks that are given up, and need not
    look at a month of ticks one by one.

    progress: progress of its job, which notes a jump. limit: maximum number of owed ticks that are not given up.
    """

    __slots__ = ("_limit", "_looked_at", "_progress", "trigger")

    def __init__(self, trigger: BaseTrigger, progress: JobProgress, limit: int) -> None:
        self.trigger = trigger
        self._progress = progress
        self._limit = limit
        self._looked_at: datetime | None = None

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        if previous_fire_time is None:
            return first_after(self.trigger, now)
        last = previous_fire_time
        if now != self._looked_at:  # one jump a look: later ticks are to be handed over
            self._looked_at, last = now, self._jump(last, now.astimezone(UTC))
        return first_after(self.trigger, last)

    def _jump(self, last: datetime, now: datetime) -> datetime:
        """Moment to go on from, given the last tick and now, in UTC."""
        grace = self._progress.job.misfire_grace_time
        moved = catchup.jump(self.trigger, last, now, misfire_grace_time=grace, limit=self._limit)
        if moved != last:
            self._progress.jump = Jump(self.trigger, last, moved)
        return moved

    def __str__(self) -> str:
        return str(self.trigger)


class _Scheduler(AsyncIOScheduler):  # type: ignore[misc]  # APScheduler 3 has no types
    """An ``AsyncIOScheduler`` whose time is a ``Clock``, and which reports when it has handed over what is due.

    So what is due at one moment is claimed together, at least ``MAX_HANDED_OVER`` jobs in a transaction.
    """

    _timeout: Timer | None = None
    _woken = False

    def __init__(self, clock: Clock, **options: Any) -> None:
        self._clock = clock
        self.handed_over: Callable[[], object] = lambda: None
        self.failed: Callable[[str, BaseException], object] = lambda *_: None
        self.exhausted: Callable[[str], object] = lambda _: None
        self.moved: Callable[[str, datetime], object] = lambda *_: None
        super().__init__(**options)
        guard(self._logger)

    def wakeup(self) -> None:
        """Look once for all jobs that are added in one turn of the event loop; APScheduler calls this for each."""
        if not self._woken:
            self._woken = True
            self._eventloop.call_soon(self._wake)

    def _wake(self) -> None:
        self._woken = False
        if self.running:
            self._hand_over_due()

    def _start_timer(self, wait_seconds: float | None) -> None:
        self._stop_timer()
        if wait_seconds is not None:
            self._timeout = call_later(self._clock, min(wait_seconds, MAX_SLEEP_S), self._look)

    def _stop_timer(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None

    def _look(self) -> None:
        self._timeout = None  # it has run out; to cancel it could cancel this look
        self._hand_over_due()

    def _hand_over_due(self) -> None:
        wait_seconds: float | None = MAX_SLEEP_S
        try:
            wait_seconds = self._process_jobs()
        finally:  # the timer is set whatever was raised
            self._start_timer(wait_seconds)

    def _process_jobs(self) -> float | None:
        """Hand over the due ticks, and return the seconds until the next look; None if no tick will be due.

        APScheduler's own method, for one store and one executor, reads the time from the machine.
        """
        if self.state == STATE_PAUSED:
            return None
        now = self._clock.now().astimezone(self.timezone)
        store = self._lookup_jobstore("default")
        due = store.get_due_jobs(now)
        for job in due[:MAX_HANDED_OVER]:
            try:
                self._hand_over(job, now, store)
            except BaseException as error:  # of a trigger; one job's error is no other's
                if self.get_job(job.id) is not None:
                    self.remove_job(job.id)
                self.failed(job.id, error)
        self.handed_over()
        if len(due) > MAX_HANDED_OVER:
            return 0.0
        next_due = store.get_next_run_time()
        if next_due is None:
            return None
        wait: float = (next_due - self._clock.now()).total_seconds()
        return max(0.0, wait)

    def _hand_over(self, job: SchedulerJob, now: datetime, store: MemoryJobStore) -> None:
        """Give the executor ticks of a job that are due, and set its next one, which may be due, too."""
        run_times, next_run_time = _due_ticks(job, now)
        self._lookup_executor("default").submit_job(job, run_times)
        if next_run_time is None:
            self._lookup_executor("default").skip_rest(job.id)
            self.remove_job(job.id)
            self.exhausted(job.id)
        else:
            job._modify(next_run_time=next_run_time)
            store.update_job(job)
            self.moved(job.id, next_run_time)


def _due_ticks(job: SchedulerJob, now: datetime) -> tuple[list[datetime], datetime | None]:
    """Return ticks of a job that are due now, ``MAX_TICKS`` at most, and the tick after them.

    Raises:
        TriggerError: They are much closer together than ``SHORTEST_INTERVAL``: the scheduler would do nothing else.
    """
    found: list[datetime] = []
    due: datetime | None = job.next_run_time
    while due is not None and due <= now and len(found) < MAX_TICKS:
        found.append(due)
        due = job.trigger.get_next_fire_time(due, now)
    shortest = MAX_TICKS * SHORTEST_INTERVAL / 2  # half of it, since jitter moves the first and the last one
    if due is not None and len(found) == MAX_TICKS and due - found[0] < shortest:
        raise TriggerError(f"its trigger has ticks less than {SHORTEST_INTERVAL.total_seconds():g} s apart")
    return found, due


class SchedulerAdapter:
    """Scheduler of one term, which submits due ticks to the executor: ``open``, ``follow`` a plan, ``resume``.

    Args:
        clock: Time of the ticks.
        scheduler_options: Options of the ``AsyncIOScheduler``.
        catch_up_limit: Ticks of a job that are caught up with at most.
    """

    def __init__(self, clock: Clock, scheduler_options: Mapping[str, Any], catch_up_limit: int) -> None:
        self._clock = clock
        self._limit = catch_up_limit
        self._scheduler = _Scheduler(clock, **scheduler_options, jobstores={"default": MemoryJobStore()})

    def open(
        self,
        executor: BaseExecutor,
        handed_over: Callable[[], object],
        failed: Callable[[str, BaseException], object],
        exhausted: Callable[[str], object],
        moved: Callable[[str, datetime], object],
    ) -> None:
        """Start the scheduler, which hands nothing over until ``resume``.

        handed_over: called each time that the executor has been given all that is due.
        failed: called with the id of a job whose trigger raises, and the error; no more of its ticks are handed over.
        exhausted: called with the id of a job whose last tick was handed over.
        moved: called with the id of a job whose ticks were handed over, and its next tick.
        """
        self._scheduler.handed_over, self._scheduler.failed = handed_over, failed
        self._scheduler.exhausted, self._scheduler.moved = exhausted, moved
        self._scheduler.add_executor(executor, "default")
        self._scheduler.start(paused=True)

    def pause(self) -> None:
        self._scheduler.pause()

    def resume(self) -> None:
        self._scheduler.resume()

    def close(self) -> None:
        """Stop the scheduler, if it was started."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def drop(self, progress: JobProgress) -> None:
        """Hand over no more ticks of this job."""
        if self._scheduler.get_job(progress.job.id) is not None:
            self._scheduler.remove_job(progress.job.id)
        progress.jump = None

    def follow(
        self,
        starts: Mapping[str, tuple[datetime, BaseTrigger]],
        progress: Mapping[str, JobProgress],
        among: Collection[str],
    ) -> None:
        """Hand over ticks from ``starts`` on, and none of any other job in ``among``.

        Args:
            starts: First tick and trigger of each job.
            progress: Progress of each job; ticks may have been handed over since the plan was made.
            among: Ids of the jobs that are planned anew; the others go on as they are.
        """
        found = map(self._scheduler.get_job, among)
        present = {job.id: job for job in found if job is not None}
        for job_id in present.keys() - starts.keys():
            self.drop(progress[job_id])
        for job_id, (due, trigger) in starts.items():
            last = progress[job_id].settled_until
            try:
                start = due if last is None or last < due else first_after(trigger, last)
                if start is None:
                    self.drop(progress[job_id])
                    self._scheduler.exhausted(job_id)
                else:
                    self._enter(progress[job_id], start, trigger, present.get(job_id))
            except BaseException as error:  # of a trigger
                self.drop(progress[job_id])
                self._scheduler.failed(job_id, error)

    def _enter(self, progress: JobProgress, due: datetime, trigger: BaseTrigger, present: SchedulerJob | None) -> None:
        job = progress.job
        if present is not None:
            if present.next_run_time == due and repr(present.trigger.trigger) == repr(trigger):
                return
            self.drop(progress)
        self._scheduler.add_job(
            _run_by_the_executor, PureTrigger(trigger, progress, self._limit), id=job.id, name=job.name,
            next_run_time=due, coalesce=False, misfire_grace_time=None,
        )  # fmt: skip
