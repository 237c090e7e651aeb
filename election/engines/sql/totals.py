"""Counters that triggers keep (``schema.py``): read as values, and removed with their jobs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from election.core.term import Reason
from election.schedule.history import BOUNDS, Histogram, Totals
from election.schedule.model import Outcome, SkipReason

from .database import Connection
from .rows import to_time

_PLACES = {str(bound): place for place, bound in enumerate(BOUNDS)} | {"+Inf": len(BOUNDS)}


def read_totals(connection: Connection) -> Totals:
    """All of it."""
    found: Mapping[str, dict[tuple[str, str], tuple[int, float]]] = defaultdict(dict)
    for what, job_id, label, count, total in connection.execute("SELECT * FROM totals"):
        found[what][job_id, label] = count, total
    select = "SELECT id, settled_until FROM jobs WHERE retired_at IS NULL AND removed = 0 ORDER BY id"
    jobs = {str(job_id): int(settled_until) for job_id, settled_until in connection.execute(select)}
    return Totals(
        jobs=list(jobs),
        runs={(job_id, Outcome(label)): count for (job_id, label), (count, _) in found["runs"].items()},
        skips={(job_id, SkipReason(label)): count for (job_id, label), (count, _) in found["skips"].items()},
        lateness=_histograms(found["lateness"]),
        durations=_histograms(found["duration"]),
        terms={Reason(label): count for (_, label), (count, _) in found["terms"].items()},
        takeover=_histograms(found["takeover"]).get("", _histogram([])),
        vacant_s={Reason(label): total for (_, label), (_, total) in found["terms"].items()},
        settled_until=to_time(max(jobs.values())) if jobs else None,
    )


def forget_jobs(connection: Connection, before: int) -> None:
    """Jobs that were gone ``before`` (microseconds), or removed, are no longer counted when their history has gone:
    ids that are used once each would otherwise be counted for ever."""
    connection.execute(
        "DELETE FROM totals WHERE job_id IN (SELECT id FROM jobs WHERE (removed <> 0 OR retired_at < ?)"
        " AND NOT EXISTS (SELECT 1 FROM runs WHERE job_id = jobs.id)"
        " AND NOT EXISTS (SELECT 1 FROM skips WHERE job_id = jobs.id))",
        (before,),
    )


def _histograms(rows: Mapping[tuple[str, str], tuple[int, float]]) -> dict[str, Histogram]:
    by_job: Mapping[str, list[tuple[int, int, float]]] = defaultdict(list)
    for (job_id, label), (count, total) in rows.items():
        by_job[job_id].append((_PLACES[label], count, total))
    return {job_id: _histogram(buckets) for job_id, buckets in by_job.items()}


def _histogram(buckets: Sequence[tuple[int, int, float]]) -> Histogram:
    counts = [0] * (len(BOUNDS) + 1)
    for place, count, _ in buckets:
        counts[place] = count
    return Histogram(counts, sum(total for _, _, total in buckets))
