"""Attempts at a claimed tick: waits for a thread, calls the function, retries failures, settles the run."""

from __future__ import annotations

import asyncio
import functools
import json
from dataclasses import dataclass
from datetime import datetime

from election.core.backoff import backoff_s
from election.core.clock import Clock, call_later, first
from election.core.errors import what_went_wrong

from .commands import FinishRun, KeepResult, RecordLog, Retry, Skip
from .job_runner import Attempt, CancelledBy, JobRunner
from .jobs import Job
from .ledger_writer import LedgerWriter
from .model import Outcome, SkipReason, Span, Tick
from .policy import is_misfire
from .reporting import RunReporter
from .run import Run

MAX_RETRY_DELAY_S = 86400.0
"""Longest back-off between two attempts; the delay doubles up to here."""

MAX_RESULT_LENGTH = 65536
"""Characters of JSON up to which the result of a requested run is kept."""

_encode = json.JSONEncoder(allow_nan=False)

TERM_OVER = "the term was over before it began"


class Attempts:
    """Attempts of one term's runs.

    Args:
        term: Number of the term.
        writer: Ledger of the term.
        clock: Time of attempts and back-off.
        runner: Calls the functions.
        reporter: Reports how each attempt ends.
    """

    def __init__(self, term: int, writer: LedgerWriter, clock: Clock, runner: JobRunner, reporter: RunReporter) -> None:
        self._term = term
        self._writer = writer
        self._clock = clock
        self._runner = runner
        self._reporter = reporter
        self._closing = asyncio.Event()
        self._cancelled = asyncio.Event()
        self._back_offs: dict[Tick, asyncio.Future[CancelledBy]] = {}
        self.queued: list[str] = []
        """Ids of the jobs that wait for a thread, one for each run."""

    def close(self) -> None:
        """Begin no more retries; attempts under way go on, and those that wait for a thread still get one."""
        self._closing.set()

    def cancel(self) -> None:
        """Cancel coroutines; a thread runs to its end. No attempt begins any more."""
        self._closing.set()
        self._cancelled.set()
        self._runner.cancel()

    def cancel_oldest(self, job_id: str) -> None:
        """Cut off the oldest run of a job, whose place a later tick takes; a thread runs to its end."""
        ticks = [tick for tick in self._back_offs if tick.job_id == job_id]
        ticks += [each.tick for each in self._runner.attempts_of(job_id) if not each.is_in_thread]
        if ticks:
            self._cancel(min(ticks, key=lambda tick: tick.due), CancelledBy.LATER_TICK)

    def cancel_run(self, tick: Tick) -> str | None:
        """Cut off the run of a tick, for good. Returns why that cannot be done, or None."""
        return self._cancel(tick, CancelledBy.REQUEST)

    def _cancel(self, tick: Tick, reason: CancelledBy) -> str | None:
        if tick in self._back_offs:
            if not self._back_offs[tick].done():
                self._back_offs[tick].set_result(reason)
            return None
        attempt = next((each for each in self._runner.attempts_of(tick.job_id) if each.tick == tick), None)
        if attempt is None:
            return "it has not begun yet: it waits for its turn, or for a thread"
        if attempt.is_in_thread:
            return "its code runs in a thread, which cannot be stopped"
        attempt.cancel(reason)
        return None

    def begin(self, job: Job, tick: Tick, attempt: int = 1, *, queued: bool = False) -> Attempt | None:
        """Make an attempt at once; None if it needs a thread and none is free.

        Its code begins in the next turn of the event loop. An attempt that ``run`` makes begins a turn later, and under
        load a turn takes milliseconds.

        Args:
            job: The job.
            tick: The tick, which is claimed.
            attempt: Number of the attempt.
            queued: As in ``run``.
        """
        if not job.is_coroutine and (self.queued or not self._runner.take_thread()):
            return None
        return self._begin(job, tick, attempt, queued=queued, is_told=False)

    def _begin(self, job: Job, tick: Tick, attempt: int, *, queued: bool, is_told: bool) -> Attempt:
        """is_told: whether the run was reported as late."""
        may_begin = functools.partial(self._may_begin, job, tick, attempt, queued=queued, is_told=is_told)
        return self._runner.begin(job, Run(tick.job_id, tick.due, self._term, attempt, tick.request), may_begin)

    async def run(
        self,
        job: Job,
        tick: Tick,
        attempt: int = 1,
        *,
        delay: float = 0.0,
        queued: bool = False,
        begun: Attempt | None = None,
    ) -> None:
        """Run a claimed tick, with as many attempts as the job allows, and settle it.

        Args:
            job: The job.
            tick: The tick.
            attempt: Number of the next attempt.
            delay: Seconds before that attempt.
            queued: Whether the run has waited for its turn, and so cannot be too late; in the drain no such run begins.
            begun: That attempt, if it was begun already.

        Raises:
            CancelledError: The event loop goes down.
        """
        try:
            if queued and self._closing.is_set():
                self.interrupted(job, tick, TERM_OVER, attempt)
                return
            while True:
                if attempt > 1 and not await self._backed_off(job, tick, attempt, delay):
                    return
                if begun is None and (begun := await self._begun(job, tick, attempt, queued=queued)) is None:
                    return
                again_in_s = await self._settled(begun, tick, attempt)
                if again_in_s is None:
                    return
                attempt, delay, begun = attempt + 1, again_in_s, None
        except asyncio.CancelledError:
            self.interrupted(job, tick, "the event loop was closed", attempt)
            raise

    async def _backed_off(self, job: Job, tick: Tick, attempt: int, delay: float) -> bool:
        """Wait before an attempt; False if the run has ended meanwhile and is settled."""
        stop = self._back_offs[tick] = asyncio.get_running_loop().create_future()
        try:
            await first(self._clock.sleep(delay), self._closing.wait(), asyncio.wait([stop]))
        finally:
            del self._back_offs[tick]
        if stop.done():  # first: whoever cancelled it was told so
            self.interrupted(job, tick, f"cancelled: {stop.result()}", attempt, is_final=True)
        elif self._closing.is_set():
            self.interrupted(job, tick, "the leader resigned before this attempt", attempt)
        else:
            return True
        return False

    async def _begun(self, job: Job, tick: Tick, attempt: int, *, queued: bool) -> Attempt | None:
        """Make an attempt, after waiting for a thread if necessary; None if the term ends first."""
        begun = self.begin(job, tick, attempt, queued=queued)
        if begun is not None:
            return begun
        is_reserved, is_told = await self._reserve_thread(job, tick, attempt)
        if not is_reserved:
            self.interrupted(job, tick, TERM_OVER, attempt)
            return None
        return self._begin(job, tick, attempt, queued=queued, is_told=is_told)

    def _may_begin(self, job: Job, tick: Tick, attempt: int, *, queued: bool, is_told: bool) -> bool:
        """Whether the code of an attempt is to begin now; if not, settle the run."""
        now = self._clock.now()
        if self._cancelled.is_set() or not self._writer.holds_seat():
            self.interrupted(job, tick, TERM_OVER, attempt)
        elif attempt == 1 and not tick.request and not queued and is_misfire(job, tick.due, now):
            skip = Skip(job.id, tick.due, tick.due, 1, SkipReason.MISFIRED, now, claimed=True)
            self._reporter.skipped(skip)
            self._writer.append(skip)
        else:
            late_s = self._late_s(tick)
            if attempt == 1 and job.late_after is not None and late_s > job.late_after and not is_told:
                self._reporter.late(tick, late_s)
            self._reporter.started(tick, attempt)
            return True
        return False

    async def _reserve_thread(self, job: Job, tick: Tick, attempt: int) -> tuple[bool, bool]:
        """Wait for a thread.

        Returns:
            Whether a thread is reserved: not if the term ends first. And whether the run was reported as late.
        """
        self.queued.append(job.id)
        timer, is_told = None, False

        def tell() -> None:
            nonlocal is_told
            is_told = True
            self._reporter.late(tick, self._late_s(tick))

        if attempt == 1 and job.late_after is not None:
            timer = call_later(self._clock, max(job.late_after - self._late_s(tick), 0.0), tell)
        try:
            is_reserved = await self._wait_for_thread()
            return is_reserved, is_told
        finally:
            self.queued.remove(job.id)
            if timer is not None:
                timer.cancel()

    def _late_s(self, tick: Tick) -> float:
        """Seconds since a tick was due."""
        return (self._clock.now() - tick.due).total_seconds()

    async def _wait_for_thread(self) -> bool:
        """Reserve a thread; False if the term ends first."""
        reserving = asyncio.ensure_future(self._runner.reserve_thread())
        await first(asyncio.wait([reserving]), self._cancelled.wait())
        if reserving.done():
            return True
        reserving.cancel()
        await asyncio.wait([reserving])
        return not reserving.cancelled()

    async def _settled(self, attempt: Attempt, tick: Tick, number: int) -> float | None:
        """Settle an attempt when it has ended; returns the seconds until the next one, None if there is none."""
        job = attempt.job
        overlong = None
        if job.expected is not None:
            report = functools.partial(self._reporter.overlong, tick, number, job.expected)
            ran_s = 0.0 if attempt.started_at is None else self._clock.monotonic() - attempt.began
            overlong = call_later(self._clock, max(job.expected - ran_s, 0.0), report)
        try:
            await self._runner.ended(attempt)
        finally:
            if overlong is not None:
                overlong.cancel()
        has_begun, ended = attempt.started_at is not None, self._clock.monotonic()
        if not has_begun and attempt.raised is None:
            return None  # it was refused, and is settled
        ran = _Execution(attempt.started_at or self._clock.now(), attempt.began if has_begun else ended, ended)
        if (kept := attempt.log()) is not None and has_begun:
            self._writer.append(RecordLog(tick, kept))
        if attempt.is_interrupted:
            is_of_term = attempt.cancelled_by is CancelledBy.TERM
            why = f"cancelled: {attempt.cancelled_by}" if has_begun or not is_of_term else TERM_OVER
            self.interrupted(job, tick, why, number, ran if has_begun else None, is_final=not is_of_term)
            return None
        if attempt.raised is None:
            if tick.request and (value := result_text(attempt.value)) is not None:
                self._writer.append(KeepResult(tick.request, value))
            self._writer.append(
                FinishRun(tick, Outcome.SUCCEEDED, self._clock.now(), started_at=ran.started_at, span=ran.span)
            )
            self._reporter.succeeded(job, tick, number, ran.took_s, attempt.value)
            return None
        return self._failed(attempt, tick, number, ran)

    def _failed(self, ended: Attempt, tick: Tick, number: int, ran: _Execution) -> float | None:
        job, raised = ended.job, ended.raised
        assert raised is not None
        error = what_went_wrong(raised)
        delay = None
        if number <= job.retries and not self._closing.is_set():
            delay = backoff_s(job.retry_backoff, number - 1, MAX_RETRY_DELAY_S)
        self._reporter.failed(job, tick, number, ran.took_s, raised, error, delay)
        if delay is None:
            self._writer.append(FinishRun(tick, Outcome.FAILED, self._clock.now(), error, ran.started_at, ran.span))
        else:
            self._writer.append(Retry(tick, Outcome.FAILED, self._clock.now(), error, ran.started_at))
        return delay

    def interrupted(
        self,
        job: Job,
        tick: Tick,
        why: str,
        attempt: int = 1,
        ran: _Execution | None = None,
        *,
        is_final: bool = False,
    ) -> None:
        """Leave the run open for the next leader, if the job is to be run again and it is not final; else settle it."""
        self._reporter.interrupted(tick, attempt, why)
        if is_final or not job.rerun_interrupted:
            started_at, span = (None, None) if ran is None else (ran.started_at, ran.span)
            self._writer.append(FinishRun(tick, Outcome.INTERRUPTED, self._clock.now(), why, started_at, span))


def result_text(value: object) -> str | None:
    """JSON text of a job's result; None for no result, and for one that is no JSON or is too long to be kept."""
    pieces, length = [], 0
    try:
        for piece in _encode.iterencode(value):
            pieces.append(piece)
            length += len(piece)
            if length > MAX_RESULT_LENGTH:
                return None
    except BaseException:  # also of a class in the job's code
        return None
    return None if value is None else "".join(pieces)


@dataclass(frozen=True, slots=True)
class _Execution:
    """When the code of an attempt ran: its start on the wall clock, both ends in seconds of the monotonic one."""

    started_at: datetime
    began: float
    ended: float

    @property
    def took_s(self) -> float:
        return round(self.ended - self.began, 6)

    @property
    def span(self) -> Span:
        return Span(round(self.began * 1e6), round(self.ended * 1e6))
