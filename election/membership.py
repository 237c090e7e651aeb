"""One worker's part in its pool while it takes part: a scope, from the start to the shutdown."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import AsyncExitStack
from typing import Self

from .core.clock import Clock, first
from .core.elector import Elector
from .engines import Engine
from .schedule.work import Work
from .signals import stopping_with_the_pool

log = logging.getLogger("election")

AFTER_THE_DRAIN = 1.0
"""Seconds beyond the drain limit that a shutdown waits for the seat to be given up."""


class Membership:
    """Entering it opens the seat and lets an elector run; leaving it stops the elector, which resigns.

    heartbeat, drain_timeout: seconds, as in ``Election``.
    """

    def __init__(self, engine: Engine, work: Work, *, clock: Clock, heartbeat: float, drain_timeout: float) -> None:
        self._engine = engine
        self._work = work
        self._clock = clock
        self._drain_timeout = drain_timeout
        self._scope = AsyncExitStack()
        self.elector = Elector(engine.seat, work.lead, clock=clock, heartbeat=heartbeat, problem=lambda: work.trouble)

    async def __aenter__(self) -> Self:
        """Raises ``ConfigurationError`` for what will not mend itself, and nothing else."""
        async with AsyncExitStack() as scope:
            self._engine.check()
            await self._engine.seat.open()
            scope.push_async_callback(self._engine.seat.close)
            scope.enter_context(stopping_with_the_pool(self.elector))
            running = asyncio.create_task(self.elector.run(), name="election")
            scope.push_async_callback(self._stop, running)
            self._scope = scope.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Return when the seat is given up, or the drain limit has passed and something would not end."""
        await self._scope.aclose()

    async def _stop(self, running: asyncio.Task[None]) -> None:
        self.elector.stop()
        await first(asyncio.wait([running]), self._clock.sleep(self._drain_timeout + AFTER_THE_DRAIN))
        if not running.done():
            log.error(
                "%s would not end; the seat stays held until this process (pid %d) is gone",
                ", ".join(self._work.unfinished()) or "the seat's release",
                os.getpid(),
            )
