"""A pool in memory: its seat, the faults that a test may ask for, and a history to judge afterwards.

Promises P1 and P2 within one process, and the same history each time on a ``ManualClock``.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, replace

from election.core.clock import Clock
from election.core.errors import SeatLostError
from election.core.process import ProcessIdentity
from election.core.seat import Observation, Worker
from election.core.term import LeaderRecord, Standing, Takeover, Term, reason_after

RESIGNERS_TURN = 0.25
"""Seconds for which a worker that gave the seat up leaves it to the others."""


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

    clock: the time that the seats live by.
    """

    def __init__(self, clock: Clock) -> None:
        self.history: list[Happening] = []
        self.holder: MemorySeat | None = None
        """Who has the seat, or had it taken away and has not ended its work yet."""
        self.record: LeaderRecord | None = None
        self._clock = clock
        self._pids = itertools.count(1001)
        self._present: dict[MemorySeat, Worker] = {}
        self._followers: list[asyncio.Future[None]] = []
        self._beaten_at = 0.0

    def seat(self, process: ProcessIdentity | None = None) -> MemorySeat:
        """The seat as one more worker sees it; ``process`` says who that is, and is made up if not given."""
        return MemorySeat(self, self._clock, process or ProcessIdentity(next(self._pids), 0, "memory", "", "memory"))

    def _free(self) -> None:
        self.holder = None
        for follower in self._followers:
            if not follower.done():
                follower.set_result(None)

    async def _freed(self) -> None:
        waiting = asyncio.get_running_loop().create_future()
        self._followers.append(waiting)
        try:
            await waiting
        finally:
            self._followers.remove(waiting)


class MemorySeat:
    """Implements ``Seat``; made by ``MemoryPool.seat()``. The attributes are faults, to be set and unset at any time.

    campaign_takes: seconds between the start of a campaign and the try.
    release_takes: seconds between the end of the term in the record and the seat being free.
    campaign_raises, beat_raises, release_raises: what these raise, as long as it is set; such a release frees nothing.
    """

    def __init__(self, pool: MemoryPool, clock: Clock, process: ProcessIdentity) -> None:
        self.campaign_takes = 0.0
        self.release_takes = 0.0
        self.campaign_raises: Exception | None = None
        self.beat_raises: Exception | None = None
        self.release_raises: Exception | None = None
        self.process = process
        self._pool = pool
        self._clock = clock
        self._tenure: Term | None = None
        self._taken_away = False
        self._crashed = False
        self._just_released = False

    def crash(self) -> None:
        """The worker dies: its seat is free at once, and what it calls from now on does nothing, for ever.

        Cancel the task of its elector as well, because the code of a dead process does not run.
        """
        self.tell("crashed")
        self._crashed = True
        self._pool._present.pop(self, None)
        if self._pool.holder is self:
            self._pool._free()

    def take_away(self) -> None:
        """The worker loses the seat, if it has it. As on the file engine, nobody else gets it before ``release``."""
        if self.held() is not None:
            self._taken_away = True
            self.tell("taken away")

    def tell(self, event: str) -> None:
        """Add a line to the history of the pool, unless the worker has crashed."""
        if not self._crashed:
            term = self._tenure.number if self._tenure else 0
            self._pool.history.append(Happening(self._clock.monotonic(), self.process.pid, event, term))

    async def open(self) -> None:
        """Take part in the pool."""
        self._pool._present[self] = Worker(self.process, self._clock.now())

    async def close(self) -> None:
        """Leave the pool; a seat that is still held stays held."""
        self._pool._present.pop(self, None)

    async def campaign(self) -> Term | None:
        """Try once to take the seat."""
        if self.campaign_takes:
            await self._clock.sleep(self.campaign_takes)
        await self._alive()
        if self.campaign_raises is not None:
            raise self.campaign_raises.with_traceback(None)
        return self._win() if self._pool.holder in {None, self} else None

    def _win(self) -> Term:
        now, before = self._clock.now(), self._pool.record
        number = before.term + 1 if before else 1
        reason = reason_after(before, followed=True)
        takeover = Takeover(number, before.holder.pid if before else None, self.process.pid, reason, now)
        self._pool.record = LeaderRecord(number, self.process, "memory", now, takeover)
        self._pool.holder, self._pool._beaten_at = self, self._clock.monotonic()
        self._tenure, self._taken_away = Term(number, now, takeover), False
        self.tell("won")
        return self._tenure

    async def vacancy(self) -> None:
        """Return when nobody has the seat; after an own term, only when the others have had their turn."""
        if self._just_released and self._pool._present.keys() - {self}:
            await self._clock.sleep(RESIGNERS_TURN)
        self._just_released = False
        while self._pool.holder is not None:
            await self._pool._freed()
        await self._alive()

    def held(self) -> Term | None:
        """The term that this worker holds."""
        return None if self._pool.holder is not self or self._taken_away else self._tenure

    async def confirm(self, takeover_ms: float) -> None:
        """Put the milliseconds into the record."""
        await self._alive()
        record = self._pool.record
        assert record is not None
        self._pool.record = replace(record, takeover=replace(record.takeover, takeover_ms=takeover_ms))

    async def beat(self, problem: str | None = None) -> None:
        """Give a sign of life."""
        await self._alive()
        if self.beat_raises is not None:
            raise self.beat_raises.with_traceback(None)
        if self._taken_away:
            raise SeatLostError("the seat was taken away")
        if self._pool.record is not None:
            self._pool.record = replace(self._pool.record, problem=problem)
        self._pool._beaten_at = self._clock.monotonic()

    async def release(self, standing: Standing) -> None:
        """Say how the term ended, then give the seat up."""
        if self._crashed:
            return
        if self.release_raises is not None:
            raise self.release_raises.with_traceback(None)
        record = self._pool.record
        assert record is not None
        self._pool.record = replace(record, standing=standing, ended_at=self._clock.now())
        try:
            if self.release_takes:
                await self._clock.sleep(self.release_takes)
        finally:
            self.tell("released")
            self._tenure, self._just_released = None, True
            if self._pool.holder is self:
                self._pool._free()

    def observe(self) -> Observation:
        """Who leads."""
        record = self._pool.record
        led = self._pool.holder is not None and record is not None and record.standing is Standing.LEADING
        age = self._clock.monotonic() - self._pool._beaten_at if led else None
        return Observation(record, led, age, record.problem if record and led else None)

    def workers(self) -> list[Worker]:
        """The workers that take part, oldest first."""
        return list(self._pool._present.values())

    async def _alive(self) -> None:
        if self._crashed:
            await asyncio.get_running_loop().create_future()  # for ever
