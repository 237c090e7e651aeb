"""Whether this worker's code has the jobs that the pool's leader runs: two applications may share a pool by mistake."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from election.core.seat import Observation
from election.schedule.job_info import name_few
from election.schedule.plan import NOT_IN_THIS_CODE

PLANNED_AFTER = timedelta(seconds=2)
"""Time after an election in which the leader has surely written down the jobs of its code."""


def planned_term(seen: Observation, now: datetime) -> int | None:
    """Return the number of the term, if its leader has written down its jobs by ``now``; None otherwise."""
    record = seen.record
    if not seen.led or record is None or record.takeover.takeover_ms is None:
        return None
    return record.term if now - record.elected_at >= PLANNED_AFTER else None


def describe_difference(ours: Collection[str], known: Mapping[str, str | None], leader: str) -> str | None:
    """Return how the jobs of this worker's code differ from those of the leader's, in words; None if they do not.

    Args:
        ours: Ids of the jobs of this worker's code.
        known: Jobs of the leader's code by the ledger, and why each cannot be run, or None.
        leader: Leader, in words.
    """
    theirs = {job_id for job_id, broken in known.items() if broken != NOT_IN_THIS_CODE}
    only_here, only_there = set(ours) - theirs, theirs - set(ours)
    if not only_here and not only_there:
        return None
    parts = [f"{where}: {name_few(ids)}" for where, ids in (("here", only_here), ("there", only_there)) if ids]
    return (
        f"this worker's code has other jobs than that of {leader}, and only the leader's run (only"
        f" {'; only '.join(parts)}); while a deploy is under way that is so for a moment, and if two applications share"
        " this pool, give each one of its own"
    )
