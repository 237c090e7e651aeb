"""Progress of one job within a term: one value that plan, scheduler and executor share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from apscheduler.triggers.base import BaseTrigger

from . import catchup
from .jobs import Job
from .model import Skip, SkipReason


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
        scheduled_since: When the schedule began by which ticks are handed over; None before the first plan.
        settled_until: Last tick that was handed over to the executor; None if none was.
        begun: Whether a tick was handed over in this term.
        running: Instances that run now, or whose claim is being written.
        waiting: Reruns that begin as soon as fewer than ``max_instances`` run.
        jump: Ticks that were left out and not recorded yet; None if there are none.
    """

    job: Job
    scheduled_since: datetime | None = None
    settled_until: datetime | None = None
    begun: bool = False
    running: int = 0
    waiting: deque[Callable[[], None]] = field(default_factory=deque)
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
        self.jump = None
        return catchup.skipped(self.job.id, jump.trigger, jump.after, jump.until, now, SkipReason.DOWN)

    def replaced(self, since: datetime) -> None:
        """Forget the ticks of another schedule: they say nothing about the one that began at ``since``.

        It may have begun earlier, by a clock that was ahead of the one by which the other began.
        """
        if self.scheduled_since is not None and since != self.scheduled_since:
            self.settled_until = None

    def take_back(self, before: datetime | None) -> None:
        """Go back to ``before``, the last tick that was handed over before a claim that could not be written."""
        if before is None or self.settled_until is None:
            self.settled_until = None
            self.begun = False
        else:
            self.settled_until = min(before, self.settled_until)
