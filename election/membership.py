"""One worker's part in its pool while it takes part: a scope, from the start to the shutdown."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Self

from .core.clock import Clock, first
from .core.elector import Elector
from .core.events import named
from .core.hooks import Hooks
from .core.term import Term
from .engines import Engine
from .fencing.switch import DeadMansSwitch
from .fencing.warden import Intents, Warden
from .options import Timing
from .schedule.work import Work
from .signals import stopping_with_the_pool

log = logging.getLogger("election")

AFTER_THE_DRAIN = 1.0
"""Seconds beyond the drain limit that a shutdown waits for the seat to be given up."""


class Membership:
    """Entering it opens the seat and lets an elector run; leaving it stops the elector, which resigns.

    intents: where a fence is written down, in a ledger of its own. timing: as in ``Election``. hooks: told of all.
    """

    def __init__(
        self, engine: Engine, work: Work, intents: Intents, hooks: Hooks, *, clock: Clock, timing: Timing
    ) -> None:
        self._engine = engine
        self._work = work
        self._clock = clock
        self._hooks = hooks
        self._drain_timeout = timing.drain_timeout
        fence_after, self._switch = None, None
        if timing.fence_after is not None and engine.hang_trace is not None:
            fence_after = timing.fence_after
            self._switch = DeadMansSwitch(fence_after, every=timing.heartbeat, last_words=engine.hang_trace)
        self._scope = AsyncExitStack()
        self._running: asyncio.Task[None] | None = None
        warden = Warden(
            engine.seat,
            intents,
            clock=clock,
            stalled_after=timing.stalled_after,
            fence_after=fence_after,
            evict=engine.terminate,
        )
        self.elector = Elector(
            engine.seat,
            self._lead,
            clock=clock,
            heartbeat=timing.heartbeat,
            problem=lambda: work.trouble,
            supervise=warden.look,
            tell=hooks.tell,
            alarm=engine.alarm,
        )

    async def __aenter__(self) -> Self:
        """Raises ``ConfigurationError`` for what will not mend itself, and nothing else."""
        async with AsyncExitStack() as scope:
            self._engine.check()
            await self._engine.seat.open()
            scope.push_async_callback(self._hooks.close)
            scope.push_async_callback(self._engine.seat.close)
            scope.enter_context(stopping_with_the_pool(self.elector))
            self._running = asyncio.create_task(self.elector.run(), name="election")
            scope.push_async_callback(self._stop, self._running)
            self._scope = scope.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Return when the seat is given up, or the drain limit has passed and something would not end."""
        await self._scope.aclose()

    @property
    def running(self) -> bool:
        """Whether its elector runs: it campaigns, leads or follows."""
        return self._running is not None and not self._running.done()

    @asynccontextmanager
    async def _lead(self, term: Term, lost: asyncio.Event) -> AsyncIterator[None]:
        """The work of a term, with the switch armed from its start to the end of its drain."""
        async with AsyncExitStack() as scope:
            if self._switch is not None:
                await scope.enter_async_context(self._switch.armed())
            await scope.enter_async_context(self._work.lead(term, lost))
            yield

    async def _stop(self, running: asyncio.Task[None]) -> None:
        self.elector.stop()
        await first(asyncio.wait([running]), self._clock.sleep(self._drain_timeout + AFTER_THE_DRAIN))
        if not running.done():
            log.error(
                "%s would not end; the seat stays held until this process (pid %d) is gone",
                ", ".join(self._work.unfinished()) or "the seat's release",
                os.getpid(),
                extra=named("shutdown_timed_out"),
            )
