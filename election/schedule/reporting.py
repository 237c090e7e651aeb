"""Reports what becomes of a term's ticks, to the application's hooks and to the log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from election.core.clock import Clock
from election.core.events import (
    Event,
    RunFailed,
    RunGivenUp,
    RunInterrupted,
    RunStarted,
    RunSucceeded,
    TickSkipped,
    described,
    named,
)

from .commands import Entry, FinishRun, RetireJob, Retry, Skip
from .job_info import name_few
from .model import Outcome, Tick
from .run import Run

log = logging.getLogger("election")


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

    def started(self, tick: Tick, attempt: int) -> None:
        self._emit(RunStarted(**self._named(tick, attempt)))

    def succeeded(self, tick: Tick, attempt: int, duration_s: float, value: object = None) -> None:
        self._emit(RunSucceeded(**self._named(tick, attempt), duration_s=duration_s, value=value))

    def failed(
        self,
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
            "job %s: the run due %s was interrupted %d times, and is not tried again: see whether it ends its process",
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
        """Report what a plan settled and skipped; ``attempts``: how often each open run had been tried."""
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
