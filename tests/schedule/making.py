"""Factories of values for the tests of the schedule and of its ledgers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from apscheduler.triggers.base import BaseTrigger

from election.core.process import ProcessIdentity
from election.core.term import Reason, Takeover, Term
from election.schedule.jobs import Job, JobRegistry
from election.schedule.model import JobState

T = TypeVar("T")

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)

LIMIT = 30.0
"""Seconds that a fact may take to come about; only a failing test waits for that long."""


def at(seconds: float) -> datetime:
    """``seconds`` after ``NOW``."""
    return NOW + timedelta(seconds=seconds)


def moments(*seconds: float) -> tuple[datetime, ...]:
    """``at`` for several values."""
    return tuple(at(second) for second in seconds)


def make_job(trigger: str | BaseTrigger = "interval", func: Callable[..., Any] = print, **arguments: Any) -> Job:
    """A job as an application would register it, in UTC, with the id ``job`` by default."""
    return JobRegistry({"timezone": "UTC"}).define(func, trigger, **{"id": "job", **arguments})


def state_of(job: Job, *, scheduled_since: datetime = NOW, until: datetime = NOW, **known: Any) -> JobState:
    """State of ``job`` in a ledger."""
    return JobState(job.id, job.schedule, scheduled_since=scheduled_since, settled_until=until, **known)


def make_term(
    number: int, *, pid: int = 100, elected_at: datetime = NOW, after: tuple[int, datetime] | None = None
) -> Term:
    """after: pid of the leader before, and when it stopped to lead."""
    if after is None:
        return Term(number, elected_at, Takeover(number, None, pid, Reason.STARTED, elected_at))
    vacant_s = (elected_at - after[1]).total_seconds()
    takeover = Takeover(number, after[0], pid, Reason.DIED, elected_at, vacant_s=vacant_s)
    return Term(number, elected_at, takeover, follows_work=True)


def process(pid: int = 100) -> ProcessIdentity:
    """A process of a given boot."""
    return ProcessIdentity(pid, 1, "boot", "pid:[1]", "host")


class CountingTrigger(BaseTrigger):  # type: ignore[misc]  # APScheduler 3 has no types
    """A trigger that counts its calls and otherwise equals the one that it wraps."""

    def __init__(self, trigger: BaseTrigger) -> None:
        self.trigger = trigger
        self.timezone = trigger.timezone
        self.calls = 0

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        self.calls += 1
        found: datetime | None = self.trigger.get_next_fire_time(previous_fire_time, now)
        return found


async def until(fact: Callable[[], T], what: str = "") -> T:
    """Return the value of ``fact`` as soon as it is true."""
    end = time.monotonic() + LIMIT
    while not (found := fact()):
        assert time.monotonic() < end, f"not within {LIMIT:g} s: {what or fact}; last seen: {found!r}"
        await asyncio.sleep(0.002)
    return found
