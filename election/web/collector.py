"""The pool's figures as Prometheus metrics: a custom collector over values, never counters of a process.

Needs prometheus-client. All but the age of the heartbeat are the same on every worker, because they are computed from
the leader record and the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from itertools import accumulate
from typing import TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from election.core.term import Reason
from election.schedule.history import BOUNDS, Histogram, Totals
from election.schedule.model import Outcome, SkipReason

from .models import Leader

_Kind = TypeVar("_Kind", bound=StrEnum)


class PoolCollector(Collector):
    """Snapshot of the metrics.

    leader: None if no leader is known. term: the latest in the leader record, 0 if none. workers: how many.
    totals: None while the ledger cannot be read. now: wall clock, UTC.
    """

    def __init__(self, leader: Leader | None, term: int, workers: int, totals: Totals | None, now: datetime) -> None:
        self._leader = leader
        self._term = term
        self._workers = workers
        self._totals = totals
        self._now = now

    def collect(self) -> Iterator[Metric]:
        yield from self._of_the_record()
        yield _flag(
            "ledger_readable",
            "1 if the ledger can be read; if not, what is in it is left out",
            self._totals is not None,
        )
        if self._totals is not None:
            yield from _of_the_ledger(self._totals)
            settled_until = self._totals.settled_until or self._now
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
        "Time from a leader's last sign of life to the next election, by how the term after it began",
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
