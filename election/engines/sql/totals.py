"""Counters of a ledger in SQL: updated in the transaction of each change, read as values, removed with their jobs.

A scrape reads a few rows, independent of the length of the history; pruned rows stay counted. Jobs that were added at
run time are counted together, by their function: their ids have no bound.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from itertools import chain
from typing import Any

from election.core.term import Reason
from election.schedule.commands import BeginTerm, Command, ConfirmTerm, FinishRun, Skip
from election.schedule.history import BOUNDS, UNCOUNTED_SKIP, Histogram, Totals, added_label
from election.schedule.model import Outcome, SkipReason

from .database import Connection
from .queries import MAX_PARAMETERS, in_parts
from .rows import NEVER, printable, read_counters, tick_key
from .values import CONVERTIBLE, integer, number, to_time

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
    """Statement that adds ``count`` rows. A counter begins anew if no worker can have written what is there."""
    total = "excluded.total + CASE WHEN totals.total BETWEEN 0 AND 1e15 THEN totals.total ELSE 0 END"
    added = f"excluded.count + CASE WHEN totals.count BETWEEN 0 AND {NEVER} THEN totals.count ELSE 0 END"
    later = f"totals.count {CONVERTIBLE} AND totals.count > excluded.count"
    return (
        f"INSERT INTO totals (what, job_id, label, count, total) VALUES {', '.join(['(?, ?, ?, ?, ?)'] * count)}"
        f" ON CONFLICT (what, job_id, label) DO UPDATE SET total = {total}, count = CASE"
        f" WHEN totals.label <> '{LATEST}' THEN {added} WHEN {later} THEN totals.count ELSE excluded.count END"
    )


def read_totals(connection: Connection) -> Totals:
    """Read all counters, and of the jobs the latest time until which one is settled, without what cannot be read."""
    rows = connection.execute("SELECT what, job_id, label, count, total FROM totals")
    found = {(what, printable(job_id), label): (count, total) for what, job_id, label, count, total in rows}
    terms = read_counters(found, "terms", Reason, _values)
    takeover = _histograms(found, "takeover").get("", Histogram([0] * len(_BUCKETS), 0.0))
    live = "FROM jobs WHERE removed = 0 AND {}retired_at IS NULL".format
    of_code = connection.execute(f"SELECT id {live('func IS NULL AND ')} ORDER BY id")
    jobs = [printable(row["id"]) for row in of_code]
    settled = f"SELECT max(settled_until) {live(f'settled_until {CONVERTIBLE} AND ')}"
    (settled_until,) = connection.execute(settled).fetchone()
    return Totals(
        jobs=jobs,
        runs=read_counters(found, "runs", Outcome, _count),
        skips=read_counters(found, "skips", SkipReason, _count),
        lateness=_histograms(found, "lateness"),
        durations=_histograms(found, "duration"),
        terms={reason: begun for (_, reason), (begun, _) in terms.items()},
        takeover=takeover,
        vacant_s={reason: total for (_, reason), (_, total) in terms.items()},
        last_success={job: at for (job, _), at in read_counters(found, "success", str, _time).items()},
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


def _values(stored: tuple[Any, Any]) -> tuple[int, float]:
    return integer(stored[0]), number(stored[1])


def _count(stored: tuple[Any, Any]) -> int:
    return integer(stored[0])


def _time(stored: tuple[Any, Any]) -> datetime:
    return to_time(stored[0])


def _histograms(found: Mapping[_Key, tuple[Any, Any]], what: str) -> dict[str, Histogram]:
    """Histograms of one kind by job; a bucket that this version does not have is left out."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0] * len(_BUCKETS))
    totals: dict[str, float] = defaultdict(float)
    for (job_id, place), (number_of_times, total) in read_counters(found, what, _PLACES.__getitem__, _values).items():
        counts[job_id][place] = number_of_times
        totals[job_id] += total
    return {job_id: Histogram(counts[job_id], totals[job_id]) for job_id in counts}
