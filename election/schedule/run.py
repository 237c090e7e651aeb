"""Current run, for the code of a job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime

from election.core.errors import NotStartedError


@dataclass(frozen=True, slots=True)
class Run:
    """An execution of a tick.

    job_id: which job.
    due: when the tick was planned, in UTC.
    term: the leader's term; a fencing token, see ``Term``.
    attempt: 1, and more when the tick is tried again.
    request: 0 for a tick of the schedule, else the number of the request to run the job now.
    """

    job_id: str
    due: datetime
    term: int
    attempt: int = 1
    request: int = 0

    @property
    def key(self) -> str:
        """The tick's name, the same in every attempt: an idempotency key for other systems."""
        by_request = f"#{self.request}" if self.request else ""
        return f"{self.job_id}@{self.due.astimezone(UTC).isoformat()}{by_request}"


_current: ContextVar[Run] = ContextVar("election_run")


def current_run() -> Run:
    """The run that the calling code is part of; works in coroutine jobs and in thread jobs.

    Raises ``NotStartedError`` outside of a job.
    """
    try:
        return _current.get()
    except LookupError:
        raise NotStartedError("current_run() was called outside of a job; only a job's own code has a run") from None


def set_current_run(run: Run) -> None:
    """Make ``run`` the one that code in the current context is part of."""
    _current.set(run)


@contextmanager
def as_current(run: Run) -> Iterator[None]:
    """Make ``run`` the one that code within the scope is part of."""
    token = _current.set(run)
    try:
        yield
    finally:
        _current.reset(token)


def in_a_run() -> bool:
    """Whether the calling code is part of a run."""
    return _current.get(None) is not None
