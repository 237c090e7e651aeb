"""The work of a worker's terms: each is a scope; entering it starts the scheduler, leaving it is the drain.

Promises P5: nothing of a job starts before the scope is entered, and the scope is not left while job code runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from election.core.clock import Clock, first
from election.core.errors import UnfinishedJobsError
from election.core.events import Event, named
from election.core.process import current_process
from election.core.term import Standing, Term

from .jobs import JobRegistry
from .ledger import Ledger
from .options import WorkOptions
from .shift import Shift
from .tasks import RunningTasks, TaskRegistry

log = logging.getLogger("election")

LAST_MOMENT = 0.5
"""Seconds that cancelled coroutines get to end when the event loop itself is going down."""


class Work:
    """Opens the work of each term of one worker.

    resign: called when somebody asked, through the ledger, that the leader resign.
    tell: told of what becomes of each tick.
    holds: whether a term's seat is held by this process, worked out anew.
    takeover_ms: what the takeover of a term took, once that is known.
    """

    def __init__(
        self,
        jobs: JobRegistry,
        tasks: TaskRegistry,
        ledger: Ledger,
        *,
        clock: Clock,
        options: WorkOptions,
        resign: Callable[[], object],
        tell: Callable[[Event], None],
        holds: Callable[[int], bool],
        takeover_ms: Callable[[int], float | None],
    ) -> None:
        self._jobs = jobs
        self._tasks = tasks
        self._ledger = ledger
        self._clock = clock
        self._options = options
        self._resign = resign
        self._tell = tell
        self._holds = holds
        self._takeover_ms = takeover_ms
        self._shift: Shift | None = None
        self._running_tasks: RunningTasks | None = None

    @property
    def trouble(self) -> str | None:
        """Why nothing can be claimed at the moment, in words; None when it can, or without a term."""
        return self._shift.trouble if self._shift else None

    def unfinished(self) -> list[str]:
        """The ids of the jobs, and the names of the tasks, whose code runs now."""
        jobs = self._shift.executor.unfinished() if self._shift else []
        return jobs + (self._running_tasks.unfinished() if self._running_tasks else [])

    @asynccontextmanager
    async def lead(self, term: Term, lost: asyncio.Event) -> AsyncIterator[None]:
        """Work for ``term`` until the scope is left; ``lost`` ends what runs without grace."""
        shift = Shift(
            self._jobs,
            self._ledger,
            term,
            current_process(),
            clock=self._clock,
            options=self._options,
            lost=lost,
            resign=self._resign,
            tell=self._tell,
            holds=lambda: self._holds(term.number),
            takeover_ms=lambda: self._takeover_ms(term.number),
        )
        try:
            await shift.begin()
            tasks = self._tasks.start(self._clock)
            self._shift, self._running_tasks = shift, tasks
            try:
                async with shift.kept_going():
                    yield
            finally:
                shift.pause()
                await self._drain(shift, tasks, lost)
            await shift.end(Standing.LOST if lost.is_set() else Standing.RESIGNED)
            self._shift = self._running_tasks = None
        finally:
            shift.stop_scheduler()
            await self._ledger.close()

    async def _drain(self, shift: Shift, tasks: RunningTasks, lost: asyncio.Event) -> None:
        executor = shift.executor
        tasks.cancel()
        executor.close()
        try:
            if not lost.is_set():
                limit = self._options.drain_timeout
                await first(executor.wait(), self._clock.sleep(limit), lost.wait())
                if executor.unfinished() and not lost.is_set():
                    log.warning(
                        "the drain limit of %g s has passed and these jobs still run: %s;"
                        " coroutines are cancelled now, threads cannot be, and the seat stays held until they end",
                        limit, ", ".join(executor.unfinished()), extra=named("drain_timed_out"),
                    )  # fmt: skip
            executor.cancel()
            await executor.wait()
            await tasks.wait()
        except asyncio.CancelledError:  # the loop is going down
            executor.cancel()
            with contextlib.suppress(asyncio.CancelledError):  # once more: it changes nothing of what still runs
                await first(executor.wait(), self._clock.sleep(LAST_MOMENT))
            if left := executor.unfinished() + tasks.unfinished():
                raise UnfinishedJobsError(f"still running: {', '.join(left)}") from None
            raise
