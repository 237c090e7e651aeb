"""Simulated pools: electors on seats in memory, on one clock, with work that only records its times.

All workers share one event loop, so a worker that stands still, as after ``kill -STOP`` or in a job that blocks its
loop, is stopped at its gate: its awaits of seat and clock, and its facts, complete only when it is continued.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from election.core.clock import first
from election.core.elector import Elector
from election.core.roles import Role
from election.core.term_context import TermContext
from election.testing import ManualClock, MemoryPool, MemorySeat
from tests.support.judge import Fact, violations

HEARTBEAT = 0.5
FENCE_AFTER = 4 * HEARTBEAT


class SimulatedWorker:
    """One worker. The attributes are the faults of its work, which may be set at any time.

    drain_takes: seconds until its work has ended after a resignation.
    clings: seconds for which its work continues even after a loss, like a thread.
    entry_raises, exit_raises: exceptions of opening and closing the work of a term.
    """

    def __init__(self, pool: MemoryPool, clock: ManualClock) -> None:
        self.drain_takes = 0.0
        self.clings = 0.0
        self.entry_raises: Exception | None = None
        self.exit_raises: Exception | None = None
        self.terms: list[int] = []
        self.crashed = False
        self.seat = pool.seat()
        self._gate = Gate()
        self._clock = GatedClock(clock, self._gate)
        seat = GatedSeat(self.seat, self._gate)
        self.elector = Elector(seat, self._lead, clock=self._clock, heartbeat=HEARTBEAT)
        self.task: asyncio.Task[None]

    async def start(self) -> None:
        await self.seat.open()
        self.task = asyncio.create_task(self.elector.run())

    def hang(self) -> None:
        """Stand still until ``resume``, and keep what it holds."""
        self._gate.close()

    def resume(self) -> None:
        self._gate.open()

    @property
    def silent(self) -> bool:
        """Whether it stands still and has led without a heartbeat for so long that it may be fenced."""
        age = self.seat.backend.shared.clock.monotonic() - self.seat.backend.shared.beaten_at
        return self._gate.shut and self.seat.held() is not None and age >= FENCE_AFTER

    def crash(self) -> None:
        self.crashed = True
        self.seat.crash()
        self.task.cancel()
        self._gate.open()  # so that the code of the dead worker ends; its seat has no further effect

    @property
    def leads(self) -> bool:
        return self.elector.role is Role.LEADER and self.seat.held() is not None

    @asynccontextmanager
    async def _lead(self, context: TermContext) -> AsyncIterator[None]:
        if self.entry_raises is not None:
            raise self.entry_raises.with_traceback(None)
        await self._gate.passed()
        self.terms.append(context.term.number)
        self.seat.tell("begin")
        try:
            yield
        finally:
            try:
                if self.drain_takes:
                    await first(self._clock.sleep(self.drain_takes), context.lost.wait())
                if self.clings:
                    await self._clock.sleep(self.clings)
                await self._gate.passed()
            finally:
                self.seat.tell("end")
            if self.exit_raises is not None:
                raise self.exit_raises.with_traceback(None)


class SimulatedPool:
    """Workers of one pool, and its history."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.memory = MemoryPool(self.clock)
        self.workers: list[SimulatedWorker] = []

    async def join(self, **faults: Any) -> SimulatedWorker:
        """Add a worker; return when it leads or follows, unless a fault of its seat takes time."""
        worker = SimulatedWorker(self.memory, self.clock)
        for name, value in faults.items():
            assert hasattr(worker, name) or hasattr(worker.seat, name)
            setattr(worker if hasattr(worker, name) else worker.seat, name, value)
        self.workers.append(worker)
        await worker.start()
        await self.clock.settle()
        return worker

    def leaders(self) -> list[SimulatedWorker]:
        return [worker for worker in self.workers if not worker.crashed and worker.leads]

    def events(self) -> list[tuple[str, int]]:
        """The history, without times and workers."""
        return [(line.event, line.term) for line in self.memory.history]


@asynccontextmanager
async def simulated_pool() -> AsyncIterator[SimulatedPool]:
    """A pool whose history must keep the promises, whatever the test did; all its workers end with the scope."""
    pool = SimulatedPool()
    try:
        yield pool
    finally:
        for worker in pool.workers:
            worker.resume()
            worker.drain_takes = worker.clings = worker.seat.release_takes = 0.0  # the clock stands still from here on
            worker.task.cancel()
        await asyncio.gather(*(worker.task for worker in pool.workers), return_exceptions=True)
    facts = [Fact(line.time, line.worker, line.event, line.term) for line in pool.memory.history]
    assert violations(facts) == []


# --- a worker that stands still ------------------------------------------------------------------------------------


class Gate:
    """A gate that is open while its worker runs."""

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
        """Wrap a function so that it neither begins nor returns while the gate is shut."""

        async def gated(*args: Any) -> Any:
            await self.passed()
            try:
                return await function(*args)
            finally:
                await self.passed()

        return gated


class GatedSeat:
    """The seat of a worker that may stand still. Methods are looked up at each call, since a test may patch them."""

    def __init__(self, seat: MemorySeat, gate: Gate) -> None:
        self._seat = seat
        self._gate = gate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._seat, name)
        return self._gate.through(found) if asyncio.iscoroutinefunction(found) else found


class GatedClock:
    """The clock of a worker that may stand still: its sleep may be over, but it does not wake up."""

    def __init__(self, clock: ManualClock, gate: Gate) -> None:
        self._clock = clock
        self._gate = gate

    def now(self) -> datetime:
        return self._clock.now()

    def monotonic(self) -> float:
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._gate.through(self._clock.sleep)(seconds)
