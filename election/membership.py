"""Participation of one worker in its pool: a scope, from the start to the shutdown."""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Self

from .core.clock import Clock, first
from .core.elector import Elector
from .core.errors import ElectionError
from .core.events import named
from .core.hooks import Hooks
from .core.logs import log
from .core.term_context import TermContext
from .core.threads import run_in_short_lived_thread
from .core.watched_task import WatchedTask
from .engines import Engine
from .fencing.switch import DeadMansSwitch
from .fencing.warden import Intents, Warden
from .options import Timing
from .schedule.term_scheduler import TermScheduler
from .signals import stopping_with_the_pool

NOT_STARTED = (
    "this Election has not been started in this worker: its lifespan did not run"
    " (the lifespans of mounted sub-applications do not)"
)
"""Problem of a worker without a membership."""

NOT_RUNNING = "the election does not run any more in this worker: restart it"
"""Problem of a worker whose elector has ended."""

RELEASE_GRACE_S = 1.0
"""Time beyond the drain limit that a shutdown waits for the release of the seat."""


class Membership:
    """Entering it opens the seat and lets an elector run; leaving it stops the elector, which resigns.

    Args:
        engine: Engine of the pool.
        open_term: Returns the scheduler of a new term.
        intents: Records a fence before it is carried out.
        hooks: Receive every event.
        clock: Time of waits and events.
        timing: Times of the Election.
    """

    def __init__(
        self,
        engine: Engine,
        open_term: Callable[[TermContext], TermScheduler],
        intents: Intents,
        hooks: Hooks,
        *,
        clock: Clock,
        timing: Timing,
    ) -> None:
        self._engine = engine
        self._open_term = open_term
        self._scheduler: TermScheduler | None = None
        self._clock = clock
        self._hooks = hooks
        self._drain_timeout = timing.drain_timeout
        fence_after, self._switch = None, None
        if timing.fence_after is not None and engine.hang_trace is not None:
            fence_after = timing.fence_after
            self._switch = DeadMansSwitch(fence_after, every=timing.heartbeat, hang_trace=engine.hang_trace)
        self._scope = AsyncExitStack()
        self._running: WatchedTask | None = None
        warden = Warden(
            engine.seat,
            intents,
            clock=clock,
            stalled_after=timing.stalled_after,
            fence_after=fence_after,
            terminate=engine.terminate,
        )
        self.elector = Elector(
            engine.seat,
            self._lead,
            clock=clock,
            heartbeat=timing.heartbeat,
            supervise=warden.look,
            emit=hooks.emit,
        )

    async def __aenter__(self) -> Self:
        """Raises ``ConfigurationError`` for permanent errors, and nothing else."""
        _warn_if_silenced()
        async with AsyncExitStack() as scope:
            await self._check()
            await self._engine.seat.open()
            scope.push_async_callback(self._hooks.close)
            scope.push_async_callback(self._engine.seat.close)
            scope.enter_context(stopping_with_the_pool(self.elector))
            self._running = WatchedTask(self.elector.run(), name="election")
            scope.push_async_callback(self._stop, self._running.task)
            self._scope = scope.pop_all()
        return self

    async def _check(self) -> None:
        """Check the pool, in a thread: that reads files, or asks a server."""
        try:
            checking = run_in_short_lived_thread(self._engine.check)
        except RuntimeError as error:  # at a limit of threads, which may pass
            log.warning("the pool could not be checked at the start: %s", error, extra=named("pool_unchecked"))
        else:
            await checking

    async def __aexit__(self, *_: object) -> None:
        """Return when the seat is given up, or the drain limit has passed and something has not ended."""
        await self._scope.aclose()

    @property
    def running(self) -> bool:
        """Whether its elector runs: it campaigns, leads or follows."""
        return self._running is not None and not self._running.task.done()

    async def wait_until_leading(self) -> None:
        """Return when the work of a term of this worker runs.

        Raises:
            ElectionError: This worker never leads, or has stopped taking part.
        """
        if not self._engine.seat.candidate:
            raise ElectionError("this worker takes part with candidate=False, and never leads")
        assert self._running is not None
        await first(self.elector.leading.wait(), asyncio.wait([self._running.task]))
        if not self.elector.leading.is_set():
            raise ElectionError("this worker takes part in the pool no longer, and did not lead")

    @property
    def problem(self) -> str | None:
        """Why this worker takes no part, cannot reach the seat, or cannot do its work; None if all is well."""
        if self._running is not None and not self.running:
            return NOT_RUNNING
        return self.elector.trouble or (self._scheduler.problem if self._scheduler else None)

    @asynccontextmanager
    async def _lead(self, context: TermContext) -> AsyncIterator[None]:
        """Do the work of a term, with the switch armed from its start to the end of its drain."""
        async with AsyncExitStack() as scope:
            if self._switch is not None:
                await scope.enter_async_context(self._switch.armed())
            self._scheduler = self._open_term(context)
            await scope.enter_async_context(self._scheduler)
            yield

    async def _stop(self, running: asyncio.Task[None]) -> None:
        self.elector.stop()
        await first(asyncio.wait([running]), self._clock.sleep(self._drain_timeout + RELEASE_GRACE_S))
        if not running.done():
            log.error(
                "%s would not end; the seat stays held until this process (pid %d) is gone",
                ", ".join(self._scheduler.unfinished() if self._scheduler else []) or "the seat's release",
                os.getpid(),
                extra=named("shutdown_timed_out"),
            )


def _warn_if_silenced() -> None:
    """Warn, beside the log, if ``logging.config`` has disabled the logger: by default it disables every logger that
    exists when it is called, and messages for operators would be lost."""
    if log.disabled:
        warnings.warn(
            "the logger 'election' is switched off, so nothing of this pool is logged: logging.config disables the"
            " loggers that exist before it is called; pass disable_existing_loggers=False, or name 'election' among"
            " the loggers of the configuration",
            RuntimeWarning,
            stacklevel=2,
        )
