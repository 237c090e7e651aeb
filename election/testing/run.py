"""Run in which a test can call a job's function, without an election."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from election.core.clock import SystemClock
from election.schedule.run import Run, as_current


@contextmanager
def as_run(job_id: str = "job", *, due: datetime | None = None, term: int = 1, attempt: int = 1) -> Iterator[Run]:
    """Let ``current_run()`` return a run with these fields within the scope, so that a job's function can be called.

    due: when the tick was planned, with a time zone; now, to the second, unless given.
    """
    run = Run(job_id, (due or SystemClock().now().replace(microsecond=0)).astimezone(UTC), term, attempt)
    with as_current(run):
        yield run
