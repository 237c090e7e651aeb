"""A pool in memory: its seat, faults that a test may set, and a history to check afterwards.

Promises P1 and P2 within one process, and the same history each time on a ``ManualClock``.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass

from election.core.backend import Grant, Refusal, Snapshot, Worker
from election.core.clock import Clock
from election.core.errors import SeatLostError
from election.core.process import ProcessIdentity
from election.core.seat import Seat
from election.core.term import LeaderRecord, Standing, Term

SAFETY_POLL_S = 1.0


@dataclass(frozen=True, slots=True)
class Happening:
    """A line of a pool's history: on the clock's monotonic ``time``, ``worker`` (a pid) did ``event`` in ``term``.

    The seat writes ``won``, ``released``, ``crashed`` and ``taken away``; a test adds others with ``MemorySeat.tell``.
    """

    time: float
    worker: int
    event: str
    term: int


class MemoryPool:
    """The workers of one pool, all in this process.

    Args:
        clock: Time of the seats.
    """

    def __init__(self, clock: Clock) -> None:
        self.history: list[Happening] = []
        self.holder: MemoryBackend | None = None
        """Worker that has the seat, or had it taken away and has not ended its work yet."""
        self.record: LeaderRecord | None = None
        self.beaten_at = 0.0
        self.present: dict[MemoryBackend, Worker] = {}
        self.clock = clock
        self._pids = itertools.count(1001)
        self._waiting: list[asyncio.Future[None]] = []

    def seat(self, process: ProcessIdentity | None = None) -> MemorySeat:
        """The seat as one more worker sees it; ``process`` identifies the worker, and is made up if not given."""
        return MemorySeat(self, process or ProcessIdentity(next(self._pids), 0, "memory", "", "memory"))

    def free(self) -> None:
        """Free the seat and wake the workers that wait for it."""
        self.holder = None
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    async def freed(self) -> None:
        """Return when the seat is freed."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        try:
            await waiting
        finally:
            self._waiting.remove(waiting)


class MemoryBackend:
    """Implements ``SeatBackend`` on a ``MemoryPool``, for one worker."""

    doubt = None  # only a heartbeat finds a loss
    _numbers = itertools.count(1)

    def __init__(self, pool: MemoryPool) -> None:
        self.pool = f"memory {next(self._numbers)}"
        self.taken_away = False
        self.dead = False
        self.release_takes = 0.0
        self.term = 0
        """Number of the term that this worker leads; 0 without one."""
        self.shared = pool
        """Pool of all workers."""

    async def open(self, worker: Worker) -> None:
        self.shared.present[self] = worker

    async def close(self) -> None:
        self.shared.present.pop(self, None)

    async def attend(self) -> None:
        """Do nothing: a worker in memory is present until it leaves."""

    async def report(self, problem: str | None) -> None:
        """Do nothing."""

    async def try_acquire(self) -> Grant | Refusal:
        if self.shared.holder not in {None, self}:
            return Refusal.TAKEN
        before = self.shared.record
        silent_s = self.shared.clock.monotonic() - self.shared.beaten_at
        return Grant("memory", before, before.term if before else 0, silent_s=silent_s)

    async def reserve(self, number: int) -> None:
        """Do nothing: no term number outlives this process."""

    async def publish(self, record: LeaderRecord) -> bool:
        if self.shared.holder not in {None, self}:
            return False
        self.shared.holder, self.shared.record = self, record
        self.shared.beaten_at = self.shared.clock.monotonic()
        self.term, self.taken_away = record.term, False
        self.write("won", record.holder.pid)
        return True

    async def renew(self, record: LeaderRecord) -> None:
        if self.taken_away:
            raise SeatLostError("the seat was taken away")
        self.shared.record, self.shared.beaten_at = record, self.shared.clock.monotonic()

    def holds(self) -> bool:
        return self.shared.holder is self and not self.taken_away

    async def release(self, record: LeaderRecord | None) -> None:
        if record is None:
            return
        self.shared.record = record
        try:
            if self.release_takes:
                await self.shared.clock.sleep(self.release_takes)
        finally:
            self.write("released", record.holder.pid)
            self.term = 0
            if self.shared.holder is self:
                self.shared.free()

    async def wait_for_vacancy(self) -> None:
        while self.shared.holder is not None:
            await self.shared.freed()

    async def snapshot(self, max_age_s: float = 0.0) -> Snapshot:
        record = self.shared.record
        led = self.shared.holder is not None and record is not None and record.standing is Standing.LEADING
        return Snapshot(record, led, self.shared.clock.monotonic() - self.shared.beaten_at)

    async def workers(self) -> list[Worker]:
        return list(self.shared.present.values())

    def die(self, pid: int) -> None:
        """Free the seat, as the death of the worker does; from now on the worker has no visible effect."""
        self.write("crashed", pid)
        self.dead = True
        self.shared.present.pop(self, None)
        if self.shared.holder is self:
            self.shared.free()

    def write(self, event: str, pid: int) -> None:
        """Add a line to the history of the pool, unless the worker is dead."""
        if not self.dead:
            self.shared.history.append(Happening(self.shared.clock.monotonic(), pid, event, self.term))


class MemorySeat(Seat):
    """Seat of a ``MemoryPool``, made by ``MemoryPool.seat()``. The attributes are faults, to be set at any time.

    Attributes:
        campaign_takes: Seconds between the start of a campaign and the try.
        campaign_raises, beat_raises, release_raises: Raised as long as they are set; such a release frees nothing.
    """

    backend: MemoryBackend

    def __init__(self, pool: MemoryPool, process: ProcessIdentity) -> None:
        super().__init__(MemoryBackend(pool), clock=pool.clock, safety_poll=SAFETY_POLL_S, identify=lambda: process)
        self.campaign_takes = 0.0
        self.campaign_raises: Exception | None = None
        self.beat_raises: Exception | None = None
        self.release_raises: Exception | None = None
        self.process = process
        self._has_followed = True  # a pool in memory is never stopped in good order

    @property
    def release_takes(self) -> float:
        """Seconds between the end of the term in the record and the seat being free."""
        return self.backend.release_takes

    @release_takes.setter
    def release_takes(self, seconds: float) -> None:
        self.backend.release_takes = seconds

    def crash(self) -> None:
        """Let the worker die: its seat is free at once, and its calls from now on have no effect.

        Cancel the task of its elector as well, because the code of a dead process does not run.
        """
        self.backend.die(self.process.pid)

    def take_away(self) -> None:
        """Take a held seat from the worker. As on the file engine, no other worker gets it before ``release``."""
        if self.held() is not None:
            self.backend.taken_away = True
            self.tell("taken away")

    def tell(self, event: str) -> None:
        """Add a line to the history of the pool, unless the worker is dead."""
        self.backend.write(event, self.process.pid)

    async def campaign(self) -> Term | None:
        if self.campaign_takes:
            await self._clock.sleep(self.campaign_takes)
        await self._alive()
        if self.campaign_raises is not None:
            raise self.campaign_raises.with_traceback(None)
        return await super().campaign()

    async def vacancy(self) -> None:
        await super().vacancy()
        await self._alive()

    async def confirm(self, takeover_ms: float) -> None:
        await self._alive()
        await super().confirm(takeover_ms)

    async def beat(self, problem: str | None = None, queued: int = 0) -> None:
        await self._alive()
        if self.beat_raises is not None:
            raise self.beat_raises.with_traceback(None)
        await super().beat(problem, queued)

    async def release(self, standing: Standing) -> None:
        if self.backend.dead:
            return
        if self.release_raises is not None:
            raise self.release_raises.with_traceback(None)
        await super().release(standing)

    async def _alive(self) -> None:
        if self.backend.dead:
            await asyncio.get_running_loop().create_future()  # for ever
