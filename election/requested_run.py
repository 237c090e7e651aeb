"""Requests whose outcome can be awaited: a run, and the cancellation of a run."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from .core.backoff import backoff_s
from .core.clock import Clock, time_limit
from .core.errors import RunError
from .operation import LedgerAccess, Operation
from .schedule.history import RunRow
from .schedule.ledger import Ledger
from .schedule.model import Outcome, RequestOutcome

_T = TypeVar("_T")

MIN_POLL_S, MAX_POLL_S = 0.02, 0.5
"""First and longest delay between two reads of the ledger while a run goes on; doubled each time."""


class RequestedRun:
    """Requested run of a job.

    Attributes:
        request: Number of the request, as in ``GET /leader/requests/{number}``.
        job_id: Id of the job.
    """

    def __init__(self, request: int, job_id: str, access: LedgerAccess, clock: Clock) -> None:
        self.request = request
        self.job_id = job_id
        self._access = access
        self._clock = clock

    def __repr__(self) -> str:
        return f"RequestedRun(request={self.request}, job_id={self.job_id!r})"

    def result(self, timeout: float | None = None) -> Operation[Any]:
        """Wait until the run has ended; a thread or a script calls ``wait``.

        Args:
            timeout: Seconds to wait; None for as long as it takes.

        Returns:
            The value that the job returned; None also if the value is no JSON, or more than 64 KiB of it.

        Raises:
            RunError: The run failed or was interrupted, or there was no run: skipped, refused, expired.
            TimeoutError: The run has not ended within ``timeout``, and goes on.
            LedgerError: The ledger is out of reach.
        """

        async def read(ledger: Ledger) -> Any:
            if timeout is None:
                return await self._ended(ledger)
            try:
                async with time_limit(self._clock, timeout):
                    return await self._ended(ledger)
            except TimeoutError:
                late = f"request {self.request} to run {self.job_id} has not ended within {timeout:g} s"
                raise TimeoutError(late) from None

        return self._access.perform(read, "jobs.run_now(…).result()")

    def cancel(self, *, by: str | None = None) -> Operation[None]:
        """Cancel the run; see ``PoolJobs.cancel``."""

        async def ask(ledger: Ledger) -> None:
            await cancel_run(ledger, await self._run(ledger), self._clock, by=by)

        return self._access.perform(ask, "jobs.run_now(…).cancel()")

    def wait(self, timeout: float | None = None) -> Any:
        """Blocking ``result``, for a thread or a script."""
        return self.result(timeout).result()

    async def _ended(self, ledger: Ledger) -> Any:
        async def look() -> RunRow | None:
            run = await self._run(ledger)
            return run if run.outcome is not None else None

        run = await _poll(self._clock, look)
        if run.outcome is not Outcome.SUCCEEDED:
            raise RunError(f"{self.job_id} {run.outcome}: {run.error}", str(run.outcome), run.error)
        request = await ledger.request_row(self.request)
        return None if request is None or request.result is None else json.loads(request.result)

    async def _run(self, ledger: Ledger) -> RunRow:
        """The run, as soon as it is claimed. Raises ``RunError`` if there is none."""

        async def look() -> RunRow | None:
            request = await ledger.request_row(self.request)
            run = None if request is None or request.run is None else await ledger.run(request.run)
            if run is None and (request is None or request.run is not None):
                raise RunError(f"request {self.request} to run {self.job_id} has been pruned", "expired", None)
            if run is None and request is not None and request.outcome is not None:
                message = f"{self.job_id} was not run: {request.outcome} ({request.reason})"
                raise RunError(message, request.outcome.value, request.reason)
            return run

        return await _poll(self._clock, look)


async def cancel_run(ledger: Ledger, run: RunRow, clock: Clock, *, by: str | None = None) -> None:
    """Request the cancellation of a run, and wait for the outcome. Raises ``RunError`` if it cannot be cancelled."""
    number = await ledger.request_cancellation(run, by=by)

    async def look() -> tuple[str, str | None] | None:
        request = await ledger.request_row(number)
        if request is None:
            return "expired", None
        return None if request.outcome is None else (request.outcome.value, request.reason)

    outcome, reason = await _poll(clock, look)
    if outcome != RequestOutcome.CANCELLED:
        raise RunError(f"run {run.seq} of {run.job_id} was not cancelled: {reason}", outcome, reason)


async def _poll(clock: Clock, look: Callable[[], Awaitable[_T | None]]) -> _T:
    """Call ``look``, with back-off, until it returns a value."""
    tries = 0
    while (found := await look()) is None:
        await clock.sleep(backoff_s(MIN_POLL_S, tries, MAX_POLL_S))
        tries += 1
    return found
