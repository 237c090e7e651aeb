"""Carries a claimed tick through: calls the function, tries again what failed, and settles the run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack

from election.core.clock import Clock, first, is_cancelled

from .job_runner import JobRunner, TakenBackError, what_went_wrong
from .jobs import Job
from .ledger_writer import LedgerWriter
from .model import FinishRun, Outcome, Retry, Tick
from .options import Around
from .reporting import RunReporter
from .run import Run


class Attempts:
    """The attempts of one term's runs.

    term: its number. around: as in ``ScheduleOptions``.
    """

    def __init__(
        self,
        term: int,
        writer: LedgerWriter,
        clock: Clock,
        runner: JobRunner,
        reporter: RunReporter,
        around: Sequence[Around] = (),
    ) -> None:
        self._term = term
        self._writer = writer
        self._clock = clock
        self._runner = runner
        self._reporter = reporter
        self._around = around
        self._closing = asyncio.Event()

    def close(self) -> None:
        """No new attempts from now on; what is under way goes on."""
        self._closing.set()

    async def run(self, job: Job, tick: Tick, attempt: int = 1) -> None:
        """Run a claimed tick, with as many attempts as the job allows, and settle it."""
        try:
            while True:
                began = self._clock.monotonic()
                self._reporter.started(tick, attempt)
                raised = await self._attempt(job, tick, attempt)
                took = round(self._clock.monotonic() - began, 6)
                if raised is None:
                    break
                error = what_went_wrong(raised)
                final = attempt > job.retries or self._closing.is_set()
                delay = job.retry_backoff * 2 ** (attempt - 1)
                self._reporter.failed(tick, attempt, took, raised, error, None if final else delay)
                if final:
                    self._writer.append(FinishRun(tick, Outcome.FAILED, self._clock.now(), error))
                    return
                self._writer.append(Retry(tick, Outcome.FAILED, self._clock.now(), error))
                await first(self._clock.sleep(delay), self._closing.wait())
                attempt += 1
                if self._closing.is_set():
                    self.interrupted(job, tick, "the leader resigned before this attempt", attempt)
                    return
        except TakenBackError:
            self.interrupted(job, tick, "the term was over before it began", attempt)
            return
        except asyncio.CancelledError:
            self.interrupted(job, tick, "cancelled: the drain limit had passed, or the term was lost", attempt)
            raise
        self._writer.append(FinishRun(tick, Outcome.SUCCEEDED, self._clock.now()))
        self._reporter.succeeded(tick, attempt, took)

    def interrupted(self, job: Job, tick: Tick, why: str, attempt: int = 1) -> None:
        """Leave the run open for the next leader if the job is to be run again; settle it otherwise."""
        self._reporter.interrupted(tick, attempt, why)
        if not job.rerun_interrupted:
            self._writer.append(FinishRun(tick, Outcome.INTERRUPTED, self._clock.now(), why))

    async def _attempt(self, job: Job, tick: Tick, attempt: int) -> BaseException | None:
        """Call the function once; returns what it raised, None if all went well."""
        run = Run(tick.job_id, tick.due, self._term, attempt, tick.request)
        try:
            with ExitStack() as scope:
                for around in self._around:
                    scope.enter_context(around(run))
                if job.is_coroutine:
                    await self._runner.on_loop(job, run)
                else:
                    await self._runner.in_thread(job, run)  # with a copy of the context variables as they are here
        except asyncio.CancelledError as error:
            if is_cancelled():
                raise
            return error  # it cancelled itself, and nobody else will settle it
        except TakenBackError:
            raise
        except (Exception, SystemExit) as error:  # a job that exits has failed; the worker has not
            return error
        return None
