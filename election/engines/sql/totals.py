"""Counters of a ledger in SQL: updated in the transaction of each change, read as values, removed with their jobs.

A scrape reads a few rows, independent of the length of the history; pruned rows stay counted. Jobs that were added at
run time are counted together, by their function: their ids have no bound.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import chain

from election.core.term import Reason
from election.schedule.commands import BeginTerm, Command, ConfirmTerm, FinishRun, Skip
from election.schedule.history import BOUNDS, UNCOUNTED_SKIP, Histogram, Totals, added_label
from election.schedule.model import Outcome, SkipReason

from .database import Connection
from .queries import MAX_PARAMETERS, in_parts
from .rows import printable, tick_key, to_time

_BUCKETS = [*map(str, BOUNDS), "+Inf"]
_PLACES = {label: place for place, label in enumerate(_BUCKETS)}

LATEST = "latest"
"""Label of a time in microseconds in place of a count: the latest one stays."""

_Key = tuple[str, str, str]
"""Kind of counter, job or an empty text, and label."""


class _Counters:
    """Counts and sums of one transaction."""

    def __init__(self) -> None:
        self.found: dict[_Key, tuple[int, float]] = {}

    def add(self, what: str, job: str, label: str, count: int = 1, total: float = 0.0) -> None:
        before = self.found.get((what, job, label), (0, 0.0))
        self.found[what, job, label] = before[0] + count, before[1] + total

    def set_latest(self, what: str, job: str, us: int) -> None:
        """Keep the latest of several times."""
        self.found[what, job, LATEST] = max(us, self.found.get((what, job, LATEST), (us, 0.0))[0]), 0.0

    def add_time(self, what: str, job: str, seconds: float) -> None:
        """Add to a histogram; a clock that stepped back counts as 0 s."""
        seconds = max(0.0, seconds)
        self.add(what, job, _BUCKETS[bisect_left(BOUNDS, seconds)], 1, seconds)


def count(connection: Connection, commands: Iterable[Command]) -> None:
    """Update the counters for ``commands``, which have taken effect."""
    counters, runs, skips = _Counters(), list[FinishRun](), list[Skip]()
    for command in commands:
        match command:
            case FinishRun():
                runs.append(command)
            case Skip():
                skips.append(command)
            case BeginTerm():
                takeover = command.term.takeover
                counters.add("terms", "", takeover.reason, 1, takeover.vacant_s or 0.0)
            case ConfirmTerm():
                counters.add_time("takeover", "", command.takeover_ms / 1e3)
    if runs:
        _count_runs(connection, runs, counters)
    if skips:
        _count_skips(connection, skips, counters)
    if counters.found:
        _write(connection, counters)


def _count_runs(connection: Connection, runs: Sequence[FinishRun], counters: _Counters) -> None:
    step = MAX_PARAMETERS // 3
    for place in range(0, len(runs), step):
        keys = [tick_key(run.tick) for run in runs[place : place + step]]
        for row in connection.execute(_select_ended(len(keys)), tuple(chain.from_iterable(keys))):
            job_id, func, due, request, claimed_at, started_at, ended_at, outcome = row
            job = _label(job_id, func)
            counters.add("runs", job, outcome)
            if outcome == Outcome.SUCCEEDED:
                counters.set_latest("success", job, ended_at)
            if request == 0:
                began = claimed_at if started_at is None else started_at
                counters.add_time("lateness", job, (began - due) / 1e6)
            if outcome != Outcome.INTERRUPTED:
                counters.add_time("duration", job, (ended_at - claimed_at) / 1e6)


@cache
def _select_ended(count: int) -> str:
    """Query of ``count`` runs by their ticks: each is found by the unique index."""
    return (
        f"WITH ended(ended_job, ended_due, ended_request) AS (VALUES {', '.join(['(?, ?, ?)'] * count)})"
        " SELECT job_id, func, due, request, claimed_at, started_at, ended_at, outcome"
        " FROM ended CROSS JOIN runs CROSS JOIN jobs"
        " WHERE job_id = ended_job AND due = ended_due AND request = ended_request AND jobs.id = ended_job"
    )


def _count_skips(connection: Connection, skips: Sequence[Skip], counters: _Counters) -> None:
    funcs: dict[str, str | None] = {}
    for which, some in in_parts(sorted({skip.job_id for skip in skips})):
        rows = connection.execute(f"SELECT id, func FROM jobs WHERE id {which}", some)
        funcs |= {row["id"]: row["func"] for row in rows}
    for skip in skips:
        number = UNCOUNTED_SKIP if skip.count is None else skip.count
        counters.add("skips", _label(skip.job_id, funcs.get(skip.job_id)), skip.reason, number)


def _label(job_id: str, func: str | None) -> str:
    return job_id if func is None else added_label(func)


def _write(connection: Connection, counters: _Counters) -> None:
    rows = [(*key, *values) for key, values in counters.found.items()]
    step = MAX_PARAMETERS // 5
    for place in range(0, len(rows), step):
        some = rows[place : place + step]
        connection.execute(_add_rows(len(some)), tuple(chain.from_iterable(some)))


@cache
def _add_rows(count: int) -> str:
    return (
        f"INSERT INTO totals (what, job_id, label, count, total) VALUES {', '.join(['(?, ?, ?, ?, ?)'] * count)}"
        " ON CONFLICT (what, job_id, label) DO UPDATE SET total = totals.total + excluded.total, count ="
        f" CASE WHEN totals.label <> '{LATEST}' THEN totals.count + excluded.count"
        " WHEN totals.count < excluded.count THEN excluded.count ELSE totals.count END"
    )


def read_totals(connection: Connection) -> Totals:
    """Read all counters."""
    found: Mapping[str, dict[tuple[str, str], tuple[int, float]]] = defaultdict(dict)
    for what, job_id, label, number, total in connection.execute(
        "SELECT what, job_id, label, count, total FROM totals"
    ):
        found[what][printable(job_id), label] = number, total
    live = "FROM jobs WHERE removed = 0 AND {}retired_at IS NULL".format
    of_code = connection.execute(f"SELECT id {live('func IS NULL AND ')} ORDER BY id")
    jobs = [printable(row["id"]) for row in of_code]
    (settled_until,) = connection.execute(f"SELECT max(settled_until) {live('')}").fetchone()
    return Totals(
        jobs=jobs,
        runs={(job_id, Outcome(label)): number for (job_id, label), (number, _) in found["runs"].items()},
        skips={(job_id, SkipReason(label)): number for (job_id, label), (number, _) in found["skips"].items()},
        lateness=_histograms(found["lateness"]),
        durations=_histograms(found["duration"]),
        terms={Reason(label): number for (_, label), (number, _) in found["terms"].items()},
        takeover=_histograms(found["takeover"]).get("", _histogram([])),
        vacant_s={Reason(label): total for (_, label), (_, total) in found["terms"].items()},
        last_success={job_id: to_time(us) for (job_id, _), (us, _) in found["success"].items()},
        settled_until=None if settled_until is None else to_time(settled_until),
    )


def forget_jobs(connection: Connection, before: int) -> None:
    """Delete the counters of code jobs without history, removed or retired before ``before`` (microseconds)."""
    connection.execute(
        "DELETE FROM totals WHERE EXISTS (SELECT 1 FROM jobs WHERE jobs.id = totals.job_id"
        " AND (removed <> 0 OR retired_at < ?))"
        " AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.job_id = totals.job_id)"
        " AND NOT EXISTS (SELECT 1 FROM skips WHERE skips.job_id = totals.job_id)",
        (before,),
    )


def _histograms(rows: Mapping[tuple[str, str], tuple[int, float]]) -> dict[str, Histogram]:
    by_job: Mapping[str, list[tuple[int, int, float]]] = defaultdict(list)
    for (job_id, label), (number, total) in rows.items():
        by_job[job_id].append((_PLACES[label], number, total))
    return {job_id: _histogram(buckets) for job_id, buckets in by_job.items()}


def _histogram(buckets: Sequence[tuple[int, int, float]]) -> Histogram:
    counts = [0] * (len(BOUNDS) + 1)
    for place, number, _ in buckets:
        counts[place] = number
    return Histogram(counts, sum(total for _, _, total in buckets))
