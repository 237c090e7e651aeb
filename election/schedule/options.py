"""Options of a worker's terms."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from .run import Run

Around = Callable[[Run], AbstractContextManager[Any]]
"""Gives what is entered around each attempt."""


MAX_THREADS = 32
"""Default number of plain functions that run at the same time."""


@dataclass(frozen=True, slots=True)
class ScheduleOptions:
    """The options of an Election that concern its jobs.

    drain_timeout: seconds that runs may take to end by themselves after a resignation.
    poll_interval: seconds between two looks at what others have written to the ledger.
    wait_for_changes: returns as soon as others have written; None if only a look finds that out.
    catch_up_limit: ticks of a job that a leader catches up with at most.
    retention: how long history is kept; None for ever.
    scheduler_options: what each term's ``AsyncIOScheduler`` is made with.
    max_threads: plain functions that run at the same time.
    around: see ``Election.around_runs``; the first is the outermost.
    """

    drain_timeout: float
    poll_interval: float
    catch_up_limit: int
    retention: timedelta | None
    scheduler_options: Mapping[str, Any]
    max_threads: int = MAX_THREADS
    around: Sequence[Around] = ()
    wait_for_changes: Callable[[], Awaitable[None]] | None = None
