"""Workers without an application: electors on seats in memory, on one clock, with work that only writes down when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from election.core.clock import first
from election.core.elector import Elector
from election.core.roles import Role
from election.core.term import Term
from election.testing import ManualClock, MemoryPool
from tests.core.hanging import Gate, GatedClock, GatedSeat
from tests.support.judge import Fact, violations

HEARTBEAT = 0.5
FENCE_AFTER = 4 * HEARTBEAT


class Member:
    """One worker. The attributes are the faults of its work, to be set at any time.

    drain_takes: seconds until its work has ended after a resignation.
    clings: seconds for which its work runs on even after a loss, as a thread does.
    entry_raises, exit_raises: what opening and closing a term's work raises.
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
        """Stand still until ``resume``; what it holds, it holds."""
        self._gate.close()

    def resume(self) -> None:
        self._gate.open()

    @property
    def silent(self) -> bool:
        """Whether it stands still, and has led without a sign of life for so long that it may be fenced."""
        age = self.seat.observe().heartbeat_age_s
        return self._gate.shut and self.seat.held() is not None and age is not None and age >= FENCE_AFTER

    def crash(self) -> None:
        self.crashed = True
        self.seat.crash()
        self.task.cancel()
        self._gate.open()  # so that the code of the dead comes to its end; its seat does nothing any more

    @property
    def leads(self) -> bool:
        return self.elector.role is Role.LEADER and self.seat.held() is not None

    @asynccontextmanager
    async def _lead(self, term: Term, lost: asyncio.Event) -> AsyncIterator[None]:
        if self.entry_raises is not None:
            raise self.entry_raises.with_traceback(None)
        await self._gate.passed()
        self.terms.append(term.number)
        self.seat.tell("begin")
        try:
            yield
        finally:
            try:
                if self.drain_takes:
                    await first(self._clock.sleep(self.drain_takes), lost.wait())
                if self.clings:
                    await self._clock.sleep(self.clings)
                await self._gate.passed()
            finally:
                self.seat.tell("end")
            if self.exit_raises is not None:
                raise self.exit_raises.with_traceback(None)


class Crew:
    """The workers of one pool, and its history."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.pool = MemoryPool(self.clock)
        self.members: list[Member] = []

    async def join(self, **faults: Any) -> Member:
        """One more worker; returns when it leads or follows, unless a fault of its seat takes time."""
        member = Member(self.pool, self.clock)
        for name, value in faults.items():
            assert hasattr(member, name) or hasattr(member.seat, name)
            setattr(member if hasattr(member, name) else member.seat, name, value)
        self.members.append(member)
        await member.start()
        await self.clock.settle()
        return member

    def leaders(self) -> list[Member]:
        return [member for member in self.members if not member.crashed and member.leads]

    def events(self) -> list[tuple[str, int]]:
        """The history, without the times and the workers."""
        return [(line.event, line.term) for line in self.pool.history]


@asynccontextmanager
async def a_crew() -> AsyncIterator[Crew]:
    """A crew whose history has to keep the promises, whatever the test did; nothing of it is left afterwards."""
    crew = Crew()
    try:
        yield crew
    finally:
        for member in crew.members:
            member.resume()
            member.drain_takes = member.clings = member.seat.release_takes = 0.0  # the clock stands still from here
            member.task.cancel()
        await asyncio.gather(*(member.task for member in crew.members), return_exceptions=True)
    facts = [Fact(line.time, line.worker, line.event, line.term) for line in crew.pool.history]
    assert violations(facts) == []
