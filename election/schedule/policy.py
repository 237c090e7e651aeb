"""Choice of the due ticks to run, and the reasons to skip the others: APScheduler's rules, as a pure function.

APScheduler applies them itself, but in three places, and does not report dropped ticks (docs/pitfalls.md#25).
After Temporal's ``processBuffer``: values in, values out, tested as a table.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from .commands import Skip
from .jobs import Job
from .model import SkipReason


@dataclass(frozen=True, slots=True)
class Decision:
    """``run``: the ticks to claim, oldest first. ``skips``: the others."""

    run: tuple[datetime, ...]
    skips: tuple[Skip, ...]


def decide(
    job: Job, dues: Sequence[datetime], *, now: datetime, running: int, gaps: Sequence[datetime] = ()
) -> Decision:
    """Apply ``misfire_grace_time``, ``coalesce`` and ``max_instances`` to the ticks of ``job`` that are due.

    dues: in UTC, oldest first. running: instances of the job that run now, or wait for their turn.
    gaps: those of ``dues`` before which ticks were left out; no skip spans such a gap.
    """
    if len(dues) == 1 and running < job.max_open and not is_misfire(job, dues[0], now):
        return Decision((dues[0],), ())  # nearly always
    fate: dict[datetime, SkipReason] = {}
    in_time = [due for due in dues if not is_misfire(job, due, now)]
    fate |= dict.fromkeys((due for due in dues if is_misfire(job, due, now)), SkipReason.MISFIRED)
    if job.coalesce:
        fate |= dict.fromkeys(in_time[:-1], SkipReason.COALESCED)
        in_time = in_time[-1:]
    if running >= job.max_instances:
        waits = in_time[: job.max_open - running] if running < job.max_open else []
        fate |= dict.fromkeys(in_time[len(waits) :], SkipReason.OVERLAP)
        in_time = waits
    skips = []
    for (reason, _), group in groupby(sorted(fate), key=lambda due: (fate[due], bisect_right(gaps, due))):
        skipped = list(group)
        skips.append(Skip(job.id, skipped[0], skipped[-1], len(skipped), reason, now))
    return Decision(tuple(in_time), tuple(skips))


def is_misfire(job: Job, due: datetime, now: datetime) -> bool:
    """Whether ``now`` is too late for the tick."""
    grace = job.misfire_grace_time
    return grace is not None and (now - due).total_seconds() > grace
