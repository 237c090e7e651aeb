"""Warnings of one term: conditions for an operator to look at though the work goes on, published in ``/leader``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, timedelta

from election.core.clock import Clock
from election.core.events import Event, RunGivenUp, RunSucceeded, named
from election.core.logs import log
from election.core.term_context import TermContext

from .job_info import name_few
from .model import Copied, JobState, State
from .progress import JobProgress

TOLERANCE = timedelta(seconds=5)
"""Largest step back of a clock without a warning: the jobs go on as soon as the clock has caught up."""


class TermWarnings:
    """Keeps ``context.warning`` up to date.

    Args:
        context: The term.
        clock: Wall clock.
    """

    def __init__(self, context: TermContext, clock: Clock) -> None:
        self._context = context
        self._clock = clock
        self._given_up: dict[str, str] = {}
        self._ahead: dict[str, datetime] = {}
        self._clock_warning: str | None = None
        self._kept: str | None = None
        self._copied: str | None = None
        self._lost: str | None = None
        self._latest = clock.now()
        """Latest time by the wall clock, since the last look, at which ticks were handed over."""

    def on_event(self, event: Event) -> None:
        """Warn of a run that was given up, until a run of its job succeeds."""
        if isinstance(event, RunGivenUp):
            self._given_up[event.job_id] = (
                f"job {event.job_id!r}: its run due {event.due.isoformat()} was interrupted {event.interruptions}"
                " times, and is not tried again"
            )
        elif not isinstance(event, RunSucceeded) or self._given_up.pop(event.job_id, None) is None:
            return
        self._publish()

    def noting_time(self, act: Callable[[], object]) -> Callable[[], None]:
        """Return ``act`` with a look at the wall clock: ticks that were handed over are settled up to that time."""

        def note_and_act() -> None:
            self._latest = max(self._latest, self._clock.now())
            act()

        return note_and_act

    def planned(self, state: State) -> None:
        """Warn of jobs that the ledger has settled up to a time that has not come yet."""
        about = state.about
        others = {} if about is None else {each: until for each, until in self._ahead.items() if each not in about}
        self._ahead = others | settled_ahead(state.jobs, self._clock.now())
        self._look()

    def look(self, progress: Iterable[JobProgress]) -> None:
        """Read the wall clock again: it may have been put back, or have caught up."""
        now = self._clock.now()
        if now < self._latest - TOLERANCE:
            for each in progress:
                if each.settled_until is not None and each.settled_until > now + TOLERANCE:
                    self._ahead[each.job.id] = each.settled_until
        self._latest = now
        if self._ahead:
            self._look()

    def kept(self, job_ids: Collection[str]) -> None:
        """Warn of jobs that do not run, since they are in the code of other living workers only."""
        warning = None
        if job_ids:
            warning = (
                f"jobs that are not in the leader's code do not run ({name_few(job_ids)}), and are kept, because a"
                " live worker has other code; this is normal during a deploy; if two applications share this pool,"
                " give each one a pool of its own"
            )
        if warning == self._kept:
            return
        if warning is not None:
            log.warning("%s", warning, extra=named("jobs_kept"))
        self._kept = warning
        self._publish()

    def copied(self, copied: Copied | None) -> None:
        """Warn of a ledger that is a copy, until it is adopted."""
        warning = None
        if copied is not None:
            warning = (
                f"this ledger was copied or restored, and is led here since {copied.at:%Y-%m-%d %H:%M:%S} UTC, term"
                f" {copied.term}; what the original owed until then is not run here; if the original is gone, python -m"
                " election adopt ends this warning"
            )
        if warning == self._copied:
            return
        if warning is not None:
            log.warning("%s", warning, extra=named("ledger_copied"))
        self._copied = warning
        self._publish()

    def lost(self, term: int, since: datetime, until: datetime) -> None:
        """Warn of a ledger that was begun in this term in place of another, until the term ends."""
        begin, end = f"{since:%Y-%m-%d %H:%M:%S}", f"{until:%Y-%m-%d %H:%M:%S}"
        self._lost = (
            f"the ledger has no record of the terms before {term}: it was lost, removed or replaced, or could not be"
            " reached then; the history, pauses, and jobs that were added at run time are not in it, and ticks that"
            f" fell due from {begin} to {end} UTC were skipped; later ones run; python -m election resign ends this"
            " warning"
        )
        log.warning("%s", self._lost, extra=named("ledger_lost"))
        self._publish()

    def _look(self) -> None:
        warning = describe_ahead(self._ahead, self._clock.now())
        if warning is None:
            self._ahead = {}
        if (warning is None) == (self._clock_warning is None):
            return  # not at each look: the text contains the time
        if warning is not None:
            log.warning("%s", warning, extra=named("clock_was_ahead"))
        self._clock_warning = warning
        self._publish()

    def _publish(self) -> None:
        self._context.warning = (
            self._clock_warning or next(iter(self._given_up.values()), None) or self._copied or self._lost or self._kept
        )


def settled_ahead(jobs: Iterable[JobState], now: datetime) -> dict[str, datetime]:
    """Return the jobs whose ticks are settled up to later than ``now``, and until when, by id."""
    return {job.id: job.settled_until for job in jobs if job.settled_until > now + TOLERANCE and not job.removed}


def describe_ahead(settled: Mapping[str, datetime], now: datetime) -> str | None:
    """Return why such jobs do not run and what to do; None if there are none any more."""
    left = {job_id: until for job_id, until in settled.items() if until > now + TOLERANCE}
    if not left:
        return None
    latest = max(left.values())
    return (
        f"jobs do not run until {latest:%Y-%m-%d %H:%M:%S} UTC, because the wall clock was ahead: their ticks are"
        f" settled up to that time, and it is {now:%Y-%m-%d %H:%M:%S} now ({name_few(left)}); if this time is right,"
        " python -m election accept-time makes them go on"
    )
