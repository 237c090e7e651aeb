"""Clock that a test advances."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

_T = TypeVar("_T")

THREADS_LIMIT_S = 60.0
"""Real seconds that ``settle`` waits for threads."""


class ManualClock:
    """Implements ``Clock``: time stands still until a test calls ``await clock.advance(seconds)``.

    now: initial time of the wall clock, in UTC.
    busy: whether a thread works on something that the code under test waits for, a transaction for instance; time
        stands still until it has ended.
    """

    def __init__(
        self, now: datetime = datetime(2026, 1, 1, tzinfo=UTC), *, busy: Callable[[], bool] = lambda: False
    ) -> None:
        self._start = now
        self._busy = busy
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
        """Let ``seconds`` pass: wake sleepers one by one in the order of time, and ``settle`` after each."""
        await self._advance_to(self._elapsed + seconds)

    async def advance_until(self, fact: Callable[[], Awaitable[_T] | _T], *, limit: float = 3600.0) -> _T:
        """Let time pass until ``fact``, a function or a coroutine function, returns a true value, and return it.

        Time goes on from one sleeper to the next and ``settle`` runs after each, so no moment is missed. Raises
        ``AssertionError`` when ``limit`` seconds have passed, or there is no sleeper that more time could wake.
        """
        end = self._elapsed + limit
        await self.settle()
        while True:
            found = fact()
            if isinstance(found, Awaitable):
                found = await found
            if found:
                return found
            await self.settle()
            while self._sleepers and self._sleepers[0][2].done():  # cancelled meanwhile
                heapq.heappop(self._sleepers)
            if not self._sleepers or self._sleepers[0][0] > end:
                raise AssertionError(f"not within {limit:g} s of the clock: {fact}; last seen: {found!r}")
            await self._advance_to(self._sleepers[0][0])

    def block(self, seconds: float) -> None:
        """Let ``seconds`` pass while the event loop is blocked: sleepers that are due meanwhile wake at the end."""
        self._elapsed += seconds
        while self._sleepers and self._sleepers[0][0] <= self._elapsed:
            _, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)

    def step_wall_clock(self, by: timedelta) -> None:
        """Move the wall clock alone, as an administrator does, or a machine that slept; this wakes no sleeper."""
        self._start += by

    async def settle(self) -> None:
        """Return when all that can run without more time has run, and no thread is ``busy``.

        Sockets and other threads are not waited for.
        """
        limit = time.monotonic() + THREADS_LIMIT_S
        await self._come_to_rest()
        while self._busy():
            if time.monotonic() > limit:
                raise RuntimeError(f"a thread was busy for {THREADS_LIMIT_S:g} s")
            await asyncio.sleep(0.0002)
            await self._come_to_rest()

    async def _advance_to(self, end: float) -> None:
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            self._elapsed, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():  # not cancelled meanwhile
                woken.set_result(None)
                await self.settle()
        self._elapsed = max(self._elapsed, end)  # the code under test may have blocked beyond it

    async def _come_to_rest(self) -> None:
        ready = getattr(asyncio.get_running_loop(), "_ready", None)  # uvloop does not show it
        for turn in range(10_000):
            await asyncio.sleep(0)
            if not ready and (ready is not None or turn > 100):
                return
        raise RuntimeError("the event loop does not come to rest: some task runs on without ever waiting")
