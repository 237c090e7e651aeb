"""Time that passes when a test says so."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta


class ManualClock:
    """Implements ``Clock``: time stands still until a test says ``await clock.advance(seconds)``.

    now: what the wall clock shows at first, in UTC.
    """

    def __init__(self, now: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = now
        self._elapsed = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        """Return when the clock has been advanced by ``seconds``."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._order), woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass: wake who sleeps, one by one in the order of time, and ``settle`` after each."""
        end = self._elapsed + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            self._elapsed, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():  # not cancelled meanwhile
                woken.set_result(None)
                await self.settle()
        self._elapsed = end

    async def settle(self) -> None:
        """Return when all that can run without more time has run. Threads and sockets are not waited for."""
        ready = getattr(asyncio.get_running_loop(), "_ready", None)  # uvloop does not show it
        for turn in range(10_000):
            await asyncio.sleep(0)
            if not ready and (ready is not None or turn > 100):
                return
        raise RuntimeError("the event loop does not come to rest: some task runs on without ever waiting")
