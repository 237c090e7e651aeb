"""Progress of jobs within a term: values that plan, scheduler and executor share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from apscheduler.triggers.base import BaseTrigger

from election.core.backoff import backoff_s
from election.core.clock import Clock
from election.core.events import named
from election.core.logs import log

from . import catchup
from .commands import Skip
from .jobs import Job
from .model import SkipReason


@dataclass(frozen=True, slots=True)
class Jump:
    """Ticks of ``trigger`` after ``after`` up to ``until`` that the scheduler left out, because it woke too late."""

    trigger: BaseTrigger
    after: datetime
    until: datetime


@dataclass(eq=False, slots=True)
class JobProgress:
    """Progress of one job within a term.

    Attributes:
        job: The job as it is registered now.
        scheduled_since: When the schedule of the handed-over ticks began; None before the first plan.
        settled_until: Last tick that was handed over to the executor; None if none was.
        begun: Whether a tick was handed over in this term.
        exhausted: Last tick that was settled, or handed over, if the schedule has none after it; None if it may have.
        stored: Whether the job was added at run time.
        running: Instances that run now, or whose claim is being written.
        waiting: Reruns that begin as soon as fewer than ``max_instances`` run.
        jump: Ticks that were left out and not recorded yet; None if there are none.
    """

    job: Job
    scheduled_since: datetime | None = None
    settled_until: datetime | None = None
    begun: bool = False
    exhausted: datetime | None = None
    stored: bool = False
    running: int = 0
    waiting: tuple[Callable[[], None], ...] = ()
    jump: Jump | None = None

    @property
    def active(self) -> int:
        """Instances that run, and reruns that wait for one of them to end."""
        return self.running + len(self.waiting)

    def skipped_range(self, due: datetime, now: datetime) -> Skip | None:
        """Skip for the ticks that were left out before ``due``, reported once; None if there were none."""
        jump = self.jump
        if jump is None or jump.until >= due:
            return None
        skip = catchup.skipped(self.job.id, jump.trigger, jump.after, jump.until, now, SkipReason.DOWN)
        self.jump = None
        return skip

    def replaced(self, since: datetime) -> None:
        """Discard ``settled_until`` of another schedule: it does not apply to the one that began at ``since``.

        The dates of two schedules cannot be compared: one clock may have been ahead of the other.
        """
        if self.scheduled_since is not None and since != self.scheduled_since:
            self.settled_until = None

    def take_back(self, before: datetime | None) -> None:
        """Go back to ``before``, the last tick that was handed over before a claim that could not be written."""
        self.exhausted = None
        if before is None or self.settled_until is None:
            self.settled_until = None
            self.begun = False
        else:
            self.settled_until = min(before, self.settled_until)


REPLAN_DELAY_S = 1.0
"""Delay before jobs that are broken are planned again; doubled for each further time."""

MAX_REPLAN_DELAY_S = 60.0


class BrokenJobs:
    """Jobs that cannot be planned in a term, and the time of the next try.

    Args:
        clock: Time of the tries.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._errors: dict[str, str] = {}
        self._tries = 0
        self._due_at = 0.0

    def retry(self) -> list[str]:
        """Return the ids of all, and clear them: they are about to be planned anew."""
        again = list(self._errors)
        self._tries = self._tries + 1 if again else 0
        self._errors = {}
        return again

    def planned(self, errors: Mapping[str, str], about: Collection[str]) -> None:
        """Note the jobs that could not be planned.

        Args:
            errors: Reasons by id.
            about: Ids of the jobs that were planned.
        """
        for job_id in self._errors.keys() & about:
            del self._errors[job_id]
        if errors:
            self._errors |= errors
            self._due_at = self._clock.monotonic() + backoff_s(REPLAN_DELAY_S, self._tries, MAX_REPLAN_DELAY_S)

    def add(self, job_id: str, error: str) -> None:
        """Note a job whose next tick could not be computed."""
        self._errors[job_id] = error

    def is_due(self) -> bool:
        """Whether there are broken jobs, and it is time to plan them again."""
        return bool(self._errors) and self._clock.monotonic() >= self._due_at


def log_broken(job_id: str, error: str) -> None:
    """Log why a job cannot be planned."""
    log.error("broken: job %s: %s; the others go on", job_id, error, extra=named("job_broken"))
