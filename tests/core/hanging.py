"""A worker that stands still for a while, as after ``kill -STOP`` or in a job that blocks its event loop.

All workers of a crew share one loop, so a worker is stopped at its doors: what it awaits of its seat and its clock, and
what its work tells, comes to nothing before it is continued. What others do meanwhile, they do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from election.testing import ManualClock, MemorySeat


class Gate:
    """Open while its worker runs."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()

    @property
    def shut(self) -> bool:
        return not self._open.is_set()

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    async def passed(self) -> None:
        while self.shut:
            await self._open.wait()

    def through(self, function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """The same function, but it neither begins nor returns while the gate is shut."""

        async def gated(*args: Any) -> Any:
            await self.passed()
            try:
                return await function(*args)
            finally:
                await self.passed()

        return gated


class GatedSeat:
    """A seat as a worker uses it that may stand still. The methods are looked up when called: a test may patch them."""

    def __init__(self, seat: MemorySeat, gate: Gate) -> None:
        self._seat = seat
        self._gate = gate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._seat, name)
        return self._gate.through(found) if asyncio.iscoroutinefunction(found) else found


class GatedClock:
    """Its time: what it sleeps for may be over, but it does not wake up."""

    def __init__(self, clock: ManualClock, gate: Gate) -> None:
        self._clock = clock
        self._gate = gate

    def now(self) -> datetime:
        return self._clock.now()

    def monotonic(self) -> float:
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._gate.through(self._clock.sleep)(seconds)
