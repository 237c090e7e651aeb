"""Reports the runs and skips of a term's ticks to the application's hooks and to the log."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from election.core.clock import Clock
from election.core.errors import LedgerError, LedgerVersionError
from election.core.events import (
    Event,
    JobFailing,
    JobRecovered,
    RunFailed,
    RunGivenUp,
    RunInterrupted,
    RunLate,
    RunOverlong,
    RunStarted,
    RunSucceeded,
    TickSkipped,
    described,
    named,
)
from election.core.logs import log

from .commands import Entry, FinishRun, RetireJob, Retry, Skip
from .job_info import name_few
from .jobs import Job
from .ledger_reader import LedgerReader
from .model import Outcome, Tick
from .run import Run

LOAD_DELAY_S = 1.0
"""Delay after the start of a term before the failing jobs are read: due jobs go first."""

MAX_STREAKS = 10_000
"""Jobs whose failures are counted; the one that failed least recently makes room for another."""

MAX_FAILED_RUNS = 500
"""Failed runs that are looked through at the start of a term for jobs that were failing."""

MAX_STREAK = 100
"""Failed runs of a job in a row that are counted there."""


@dataclass(frozen=True, slots=True)
class Streaks:
    """Failed runs in a row of jobs that ran before those of earlier terms were known.

    Attributes:
        failing: Jobs that have reached their ``failing_after`` by that, how many runs had failed in a row, and the
            latest error.
        recovered: Jobs that have succeeded, and how many runs had failed in a row before.
    """

    failing: Sequence[tuple[Job, int, str]]
    recovered: Sequence[tuple[Job, int]]


class FailureStreaks:
    """Failed runs in a row, by job; runs that were interrupted or skipped do not count."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, int] = OrderedDict()
        self._is_loaded = False
        self._first: dict[str, tuple[Job, int, str]] = {}
        """First failures of jobs in this term, which may go on with those of earlier terms: number and latest error."""
        self._succeeded: set[str] = set()
        """Ids of those that have succeeded since."""

    def failed(self, job: Job, error: str) -> int | None:
        """Count a failed run; returns how many have failed in a row, None while that is not known: see ``load``."""
        self._failures[job.id] = failures = self._failures.pop(job.id, 0) + 1
        if len(self._failures) > MAX_STREAKS:
            self._failures.popitem(last=False)
        if self._is_loaded or job.id in self._succeeded:
            return failures
        self._first[job.id] = job, failures, error
        return None

    def succeeded(self, job: Job) -> int | None:
        """Count a run that succeeded; returns how many had failed in a row before, None while that is not known."""
        failures = self._failures.pop(job.id, 0) if self._failures else 0
        if self._is_loaded or job.id in self._succeeded:
            return failures
        self._first.setdefault(job.id, (job, 0, ""))
        self._succeeded.add(job.id)
        return None

    async def load(self, ledger: LedgerReader, term: int) -> Streaks:
        """Go on with the failures of terms before ``term``; without an answer of the ledger, there were none."""
        before = await _failures_before(ledger, term)
        self._is_loaded = True
        for job_id in before.keys() - self._succeeded:
            self._failures[job_id] = self._failures.get(job_id, 0) + before[job_id]
        streaks = [(job, before.get(job.id, 0), failures, error) for job, failures, error in self._first.values()]
        found = Streaks(
            [(job, old + new, error) for job, old, new, error in streaks if old < job.failing_after <= old + new],
            [(job, old + new) for job, old, new, _ in streaks if job.id in self._succeeded],
        )
        self._first.clear()
        self._succeeded.clear()
        return found


async def _failures_before(ledger: LedgerReader, term: int) -> dict[str, int]:
    """How many of the latest runs before ``term`` have failed in a row, of each job whose latest one has."""
    found: dict[str, int] = {}
    try:
        recent = await ledger.runs(outcome=Outcome.FAILED, limit=MAX_FAILED_RUNS)
        for job_id in dict.fromkeys(run.job_id for run in recent):
            runs = await ledger.runs(job_id=job_id, limit=MAX_STREAK)
            ended = (run for run in runs if run.outcome in _OF_THE_CODE and run.term < term)
            found[job_id] = len(list(itertools.takewhile(lambda run: run.outcome is Outcome.FAILED, ended)))
    except (LedgerError, LedgerVersionError) as error:
        log.debug("the failing jobs of earlier terms could not be read: %s", error)
    return {job_id: failures for job_id, failures in found.items() if failures}


_OF_THE_CODE = {Outcome.SUCCEEDED, Outcome.FAILED}


class RunReporter:
    """Reports the runs and skips of one term.

    Args:
        term: Number of the term.
        clock: Time of the events.
        emit: Passes an event to the hooks.
    """

    def __init__(self, term: int, clock: Clock, emit: Callable[[Event], None]) -> None:
        self._term = term
        self._clock = clock
        self._emit = emit
        self._streaks = FailureStreaks()

    async def load(self, ledger: LedgerReader) -> None:
        """Read the failing jobs of earlier terms, and go on with their counts."""
        await self._clock.sleep(LOAD_DELAY_S)
        streaks = await self._streaks.load(ledger, self._term)
        for job, failures, error in streaks.failing:
            self._failing(job, failures, error)
        for job, failures in streaks.recovered:
            self._recovered(job, failures)

    def started(self, tick: Tick, attempt: int) -> None:
        self._emit(RunStarted(**self._named(tick, attempt)))

    def late(self, tick: Tick, late_s: float) -> None:
        event = RunLate(**self._named(tick, 1), late_s=round(late_s, 3))
        info = (tick.job_id, late_s, tick.due.isoformat())
        log.warning("job %s is late by %.1f s (due %s)", *info, extra=described(event))
        self._emit(event)

    def overlong(self, tick: Tick, attempt: int, expected_s: float) -> None:
        event = RunOverlong(**self._named(tick, attempt), expected_s=expected_s)
        log.warning(
            "job %s runs for longer than the %g s that it is expected to take (due %s, attempt %d)",
            tick.job_id, expected_s, tick.due.isoformat(), attempt, extra=described(event),
        )  # fmt: skip
        self._emit(event)

    def succeeded(self, job: Job, tick: Tick, attempt: int, duration_s: float, value: object = None) -> None:
        self._emit(RunSucceeded(**self._named(tick, attempt), duration_s=duration_s, value=value))
        self._recovered(job, self._streaks.succeeded(job))

    def _recovered(self, job: Job, failures: int | None) -> None:
        """Report a job that was failing; do nothing if fewer runs had failed in a row, or that is not known yet."""
        if failures is not None and failures >= job.failing_after:
            event = JobRecovered(self._clock.now(), self._term, job.id, failures)
            log.warning("job %s has recovered, after %d failed runs", job.id, failures, extra=described(event))
            self._emit(event)

    def failed(
        self,
        job: Job,
        tick: Tick,
        attempt: int,
        duration_s: float,
        raised: BaseException,
        error: str,
        again_in_s: float | None,
    ) -> None:
        """error: ``raised`` in words."""
        named = self._named(tick, attempt)
        event = RunFailed(**named, duration_s=duration_s, error=error, again_in_s=again_in_s, exception=raised)
        info = (tick.job_id, tick.due.isoformat(), attempt)
        if again_in_s is None:
            log.error("job %s failed (due %s, attempt %d)", *info, exc_info=raised, extra=described(event))
        else:
            log.warning(
                "job %s failed (due %s, attempt %d); again in %.1f s",
                *info, again_in_s, exc_info=raised, extra=described(event),
            )  # fmt: skip
        self._emit(event)
        if again_in_s is None and (failures := self._streaks.failed(job, error)) == job.failing_after:
            self._failing(job, failures, error)

    def _failing(self, job: Job, failures: int, error: str) -> None:
        event = JobFailing(self._clock.now(), self._term, job.id, failures, error)
        log.error("job %s fails: %d runs in a row", job.id, failures, extra=described(event))
        self._emit(event)

    def interrupted(self, tick: Tick, attempt: int, error: str) -> None:
        event = RunInterrupted(**self._named(tick, attempt), error=error)
        log.warning(
            "job %s was interrupted (due %s, attempt %d): %s",
            tick.job_id, tick.due.isoformat(), attempt, error, extra=described(event),
        )  # fmt: skip
        self._emit(event)

    def given_up(self, tick: Tick, attempt: int, interruptions: int) -> None:
        event = RunGivenUp(**self._named(tick, attempt), interruptions=interruptions)
        log.error(
            "job %s: the run due %s was interrupted %d times, and is not tried again: check whether the job ends its"
            " process",
            tick.job_id, tick.due.isoformat(), interruptions, extra=described(event),
        )  # fmt: skip
        self._emit(event)

    def skipped(self, skip: Skip) -> None:
        event = TickSkipped(
            self._clock.now(), self._term, skip.job_id, skip.first_due, skip.last_due, skip.count, skip.reason
        )
        log.warning(
            "job %s: %s %s (due %s%s)",
            skip.job_id,
            "tick" if skip.count == 1 else f"{skip.count or 'more than 100'} ticks",
            skip.reason,
            skip.first_due.isoformat(),
            "" if skip.first_due == skip.last_due else f" to {skip.last_due.isoformat()}",
            extra=described(event),
        )
        self._emit(event)

    def planned(self, entries: Sequence[Entry], attempts: Mapping[Tick, int]) -> None:
        """Report the runs and skips of a plan; ``attempts``: how often each open run had been tried."""
        if retired := [entry.job_id for entry in entries if isinstance(entry, RetireJob)]:
            log.warning(
                "jobs are no longer in the code, and are not run: %s; if they are those of another application, give"
                " each one a pool of its own",
                name_few(retired),
                extra=named("jobs_retired"),
            )
        for entry in entries:
            match entry:
                case Skip():
                    self.skipped(entry)
                case FinishRun(outcome=Outcome.INTERRUPTED) | Retry(outcome=Outcome.INTERRUPTED):
                    self.interrupted(entry.tick, attempts.get(entry.tick, 1), entry.error or "")

    def _named(self, tick: Tick, attempt: int) -> dict[str, Any]:
        """Return the fields of every event of a run."""
        run = Run(tick.job_id, tick.due, self._term, attempt, tick.request)
        named = {"job_id": run.job_id, "due": run.due, "attempt": attempt, "key": run.key}
        return {"at": self._clock.now(), "term": self._term, **named}
