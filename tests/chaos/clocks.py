"""The wall clock of a pool, or of one of its workers, put forward or back.

The workers read how far it is off from files, at each look. Waits, leases and the facts of a run are on other clocks,
which nobody can put.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from election.core.clock import SystemClock

from .kinds import CLOCK_STEP_S
from .plan import Fault


def step_of(fault: Fault) -> float:
    """Seconds by which a fault puts a clock forward, or back if less than 0."""
    return CLOCK_STEP_S if fault.index % 2 else -CLOCK_STEP_S


class PoolClock:
    """The clocks of all workers. offset: file with the seconds by which they are ahead; beside it those of a worker."""

    def __init__(self, offset: Path) -> None:
        self._offset = offset

    def put(self, seconds: float, pid: int | None = None) -> None:
        """Put the clocks of all, or of one worker, to so many seconds from the real time."""
        path = _of_worker(self._offset, pid) if pid is not None else self._offset
        new = path.with_suffix(".new")
        new.write_text(f"{seconds:g}")
        new.rename(path)


def use_stepped_clock(offset: Path) -> None:
    """Let the clock of this process be off by what the files say."""

    def now(_: SystemClock) -> datetime:
        seconds = _read(_of_worker(offset, os.getpid())) or _read(offset)
        return datetime.now(UTC) + timedelta(seconds=seconds)

    SystemClock.now = now  # type: ignore[method-assign]


def _of_worker(offset: Path, pid: int) -> Path:
    return offset.with_name(f"{offset.name}-{pid}")


def _read(path: Path) -> float:
    try:
        return float(path.read_text())
    except FileNotFoundError:
        return 0.0
