"""The pool's figures as Prometheus metrics: a custom collector over values, never counters of a process.

Needs prometheus-client. All but the age of the heartbeat are the same on every worker, because they are computed from
the leader record and the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import accumulate
from typing import TypeVar

from apscheduler.triggers.base import BaseTrigger
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from election.core.term import Reason
from election.schedule.history import BOUNDS, Histogram, Totals
from election.schedule.model import JobState, Outcome, SkipReason
from election.schedule.ticks import first_tick, is_planned, next_run_time
from election.schedule.triggers import build

from .models import Leader

_Kind = TypeVar("_Kind", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of a ledger. jobs: those of the code, 100 at most. oldest_run: claim of the oldest open run."""

    totals: Totals
    jobs: Sequence[JobState]
    oldest_run: datetime | None


class PoolCollector(Collector):
    """Snapshot of the metrics.

    pool, engine: names. leader: None if no leader is known. term: the latest in the leader record, 0 if none.
    workers: number of live workers. history: None while the ledger cannot be read. now: wall clock, UTC.
    """

    def __init__(
        self,
        names: tuple[str, str],
        leader: Leader | None,
        term: int,
        workers: int,
        history: Figures | None,
        now: datetime,
    ) -> None:
        self._names = names
        self._leader = leader
        self._term = term
        self._workers = workers
        self._history = history
        self._now = now

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily(
            "election_pool", "Name of the pool, and its engine", dict(zip(("pool", "engine"), self._names, strict=True))
        )
        yield from self._of_the_record()
        yield _flag(
            "ledger_readable",
            "1 if the ledger can be read; if not, what is in it is left out",
            self._history is not None,
        )
        if self._history is not None:
            totals = self._history.totals
            yield from _of_the_ledger(totals)
            yield from _of_the_jobs(self._history, self._now)
            settled_until = totals.settled_until or self._now
            yield GaugeMetricFamily(
                "election_settled_ahead_seconds",
                "How far ahead of this worker's clock the ticks of a job are settled: more than 0 if a clock was ahead",
                max(0.0, (settled_until - self._now).total_seconds()),
            )

    def _of_the_record(self) -> Iterator[Metric]:
        leader = self._leader
        yield _flag("led", "1 if somebody is known to lead", leader is not None)
        yield GaugeMetricFamily("election_term", "Number of the latest term", self._term)
        yield GaugeMetricFamily("election_workers", "Live workers of the pool", self._workers)
        if leader is not None:
            yield GaugeMetricFamily("election_leader_pid", "Process id of the leader", leader.pid)
            yield _flag("leader_responsive", "1 if the leader's event loop moves", leader.responsive)
            yield GaugeMetricFamily(
                "election_leader_heartbeat_age_seconds",
                "Time since the answering worker last saw the leader's heartbeat move",
                leader.heartbeat_age_s,
            )
            yield GaugeMetricFamily(
                "election_leader_queued_runs", "Runs that wait for a thread in the leader", leader.queued
            )


def _of_the_ledger(totals: Totals) -> Iterator[Metric]:
    yield _counter("takeovers", "Terms by how they began", ["reason"], _by_reason(totals.terms.items()))
    yield _counter(
        "vacant_seconds",
        "Time from the end of a term, or its leader's last heartbeat, to the next election, by how the next term began",
        ["reason"],
        _by_reason(totals.vacant_s.items()),
    )
    yield _histogram("takeover_seconds", "Time from learning of a vacancy to the scheduler running", totals.takeover)
    yield _counter("runs", "Runs that ended", ["job_id", "outcome"], _by_job(totals.jobs, Outcome, totals.runs))
    yield _counter(
        "ticks_skipped",
        "Ticks that had no run; a range that was too long to be counted counts as 100",
        ["job_id", "reason"],
        _by_job(totals.jobs, SkipReason, totals.skips),
    )
    yield _histogram("run_lateness_seconds", "Time from a tick's due time to the start of its code", totals.lateness)
    yield _histogram(
        "run_duration_seconds",
        "Time from a tick's claim to the end of its last attempt, of runs that ended by themselves",
        totals.durations,
    )


def _of_the_jobs(found: Figures, now: datetime) -> Iterator[Metric]:
    jobs = [job for job in found.jobs if job.retired_at is None]
    yield _by_id("paused", "1 if the job is paused", {job.id: int(job.paused) for job in jobs})
    yield _by_id("broken", "1 if the job cannot be run", {job.id: int(job.broken is not None) for job in jobs})
    yield _by_id(
        "last_success_timestamp_seconds",
        "When the latest run that succeeded ended",
        {job_id: moment.timestamp() for job_id, moment in found.totals.last_success.items()},
    )
    triggers = {job.id: build(job.trigger, job.scheduled_since) for job in jobs}
    due = {job.id: next_run_time(job, triggers[job.id]) for job in jobs}
    yield _by_id(
        "next_run_timestamp_seconds",
        "When the job is due next",
        {job_id: moment.timestamp() for job_id, moment in due.items() if moment is not None},
    )
    yield _by_id(
        "overdue_seconds",
        "Time since the first tick after the latest success, whose run has not succeeded; 0 if there is none",
        {
            job.id: overdue_s(job, triggers[job.id], found.totals.last_success.get(job.id), now)
            for job in jobs
            if triggers[job.id] is not None
        },
    )
    oldest = 0.0 if found.oldest_run is None else max(0.0, (now - found.oldest_run).total_seconds())
    yield GaugeMetricFamily("election_oldest_run_seconds", "Age of the oldest run that has not ended", oldest)


def overdue_s(job: JobState, trigger: BaseTrigger | None, last_success: datetime | None, now: datetime) -> float:
    """Seconds since the first tick after the latest success; 0 if that is still to come, or the job is not planned.

    Args:
        job: State of the job; without a success it counts from the beginning of its schedule.
        trigger: Its trigger.
        last_success: End of its latest run that succeeded, in UTC.
        now: Wall clock, in UTC.
    """
    since = job.scheduled_since if last_success is None else max(last_success, job.scheduled_since)
    due = None if trigger is None or not is_planned(job) else first_tick(job.id, trigger, since)
    return 0.0 if due is None else max(0.0, (now - due).total_seconds())


def exposition(figures: PoolCollector, accept: str) -> tuple[bytes, str]:
    """Return the figures in the format that a request's ``accept`` header names, and the content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(figures)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def _flag(name: str, text: str, yes: bool) -> Metric:
    return GaugeMetricFamily(f"election_{name}", text, int(yes))


def _counter(name: str, text: str, labels: list[str], rows: Iterable[tuple[list[str], float]]) -> Metric:
    family = CounterMetricFamily(f"election_{name}", text, labels=labels)
    for values, count in rows:
        family.add_metric(values, count)
    return family


def _by_id(name: str, text: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"election_job_{name}", text, labels=["job_id"])
    for job_id, value in values.items():
        family.add_metric([job_id], value)
    return family


def _by_reason(found: Iterable[tuple[Reason, float]]) -> list[tuple[list[str], float]]:
    """Return values for every reason, so that the first takeover for a reason is an increase."""
    counted = dict(found)
    return [([reason], counted.get(reason, 0)) for reason in Reason]


def _by_job(
    jobs: Iterable[str], kinds: Iterable[_Kind], found: Mapping[tuple[str, _Kind], int]
) -> list[tuple[list[str], float]]:
    """Return values for every kind and job, also for jobs that are gone."""
    every = dict.fromkeys([*jobs, *(job_id for job_id, _ in found)])
    return [([job_id, kind], found.get((job_id, kind), 0)) for job_id in every for kind in kinds]


def _histogram(name: str, text: str, found: Mapping[str, Histogram] | Histogram) -> Metric:
    """Return a histogram by job, or of the whole pool."""
    by_job = isinstance(found, Mapping)
    family = HistogramMetricFamily(f"election_{name}", text, labels=["job_id"] if by_job else [])
    for job_id, histogram in found.items() if isinstance(found, Mapping) else [(None, found)]:
        counts = zip([*map(str, BOUNDS), "+Inf"], accumulate(histogram.counts), strict=True)
        family.add_metric([] if job_id is None else [job_id], [*counts], histogram.total_s)
    return family
