"""Events of a worker as values: for hooks of the application, and for structured logs."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .term import Reason


@dataclass(frozen=True, slots=True)
class Event:
    """Event in this worker. at: in UTC. term: number of its term."""

    at: datetime
    term: int

    @property
    def name(self) -> str:
        """Name of the event in lower case: ``took_over``."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(self).__name__).lower()

    def fields(self) -> dict[str, Any]:
        """The event as plain values, with its name as ``event``; without objects that only this process has."""
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.repr}
        return {"event": self.name} | {
            name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()
        }


@dataclass(frozen=True, slots=True)
class Elected(Event):
    """This worker leads: its scheduler runs."""

    pid: int


@dataclass(frozen=True, slots=True)
class TookOver(Event):
    """This worker leads after another one. takeover_ms: from detecting the vacancy to the running scheduler."""

    pid: int
    from_pid: int | None
    reason: Reason
    takeover_ms: float


@dataclass(frozen=True, slots=True)
class Fenced(Event):
    """The former leader hung and was ended; ``term`` and ``pid`` are that leader's. Emitted by the new leader."""

    pid: int | None


@dataclass(frozen=True, slots=True)
class Resigned(Event):
    """This worker gave the seat up in good order."""

    pid: int


@dataclass(frozen=True, slots=True)
class Deposed(Event):
    """This worker lost the seat."""

    pid: int


@dataclass(frozen=True, slots=True)
class _OfARun(Event):
    """Fields of every event of a run. key: the tick's name, as in ``Run``. due: in UTC."""

    job_id: str
    due: datetime
    attempt: int
    key: str


@dataclass(frozen=True, slots=True)
class RunStarted(_OfARun):
    """An attempt at a claimed tick begins."""


@dataclass(frozen=True, slots=True)
class RunSucceeded(_OfARun):
    """duration_s: seconds from the attempt's start to its end. value: result of the job."""

    duration_s: float
    value: Any = dataclasses.field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class RunFailed(_OfARun):
    """An attempt failed. again_in_s: seconds until the next one; None if there is none, and the run has failed.

    error: the exception in words. exception: raised by the job.
    """

    duration_s: float
    error: str
    again_in_s: float | None
    exception: BaseException | None = dataclasses.field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class RunInterrupted(_OfARun):
    """A run was cut off, or did not begin: its term ended, or it was cancelled. error: why, in words."""

    error: str


@dataclass(frozen=True, slots=True)
class RunGivenUp(_OfARun):
    """A run was interrupted so often that it is not tried again. interruptions: how often."""

    interruptions: int


@dataclass(frozen=True, slots=True)
class RunLate(_OfARun):
    """A run has not begun, or began, later after it was due than ``late_after`` of its job. late_s: seconds."""

    late_s: float


@dataclass(frozen=True, slots=True)
class RunOverlong(_OfARun):
    """An attempt has run for longer than ``expected`` of its job, and goes on. expected_s: seconds."""

    expected_s: float


@dataclass(frozen=True, slots=True)
class JobFailing(Event):
    """As many runs of a job in a row have failed as its ``failing_after``. error: the latest error, in words."""

    job_id: str
    failures: int
    error: str


@dataclass(frozen=True, slots=True)
class JobRecovered(Event):
    """A run of a job that was failing has succeeded. failures: runs that had failed in a row."""

    job_id: str
    failures: int


@dataclass(frozen=True, slots=True)
class TickSkipped(Event):
    """Ticks will have no run. count: how many; None for more than could be counted at once. reason: see the ledger."""

    job_id: str
    first_due: datetime
    last_due: datetime
    count: int | None
    reason: str


def described(event: Event) -> dict[str, Any]:
    """For ``extra`` of a log call: the record gets an attribute ``event`` with the event's fields."""
    return {"event": event.fields()}


def named(name: str) -> dict[str, Any]:
    """``extra`` of a log call without an event for hooks: the record's ``event`` has this name and no other field."""
    return {"event": {"event": name}}
