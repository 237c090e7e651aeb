"""A pool's whole life: workers, faults in an order, then health, then its end in good order. Checked all along."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import TypeAlias

from election.core.elector import RETRY_AT_MOST
from election.core.roles import Role
from tests.core.crew import HEARTBEAT, Crew, a_crew
from tests.core.faults import EVENTS, Event, chosen, heal

LONGEST = 5.0
"""Seconds that any fault here takes at most."""

RECOVERY = RETRY_AT_MOST + HEARTBEAT + 5 * LONGEST
"""Seconds within which somebody leads when there are no more faults: a back-off, a heartbeat that notices a loss, a
campaign, drain and release that had been slow when they began, and a campaign of somebody else."""

Script: TypeAlias = Sequence[tuple[Event, float]]
"""What happens, and the seconds after it."""


async def live(size: int, script: Script) -> int:
    """Let ``size`` workers live through the script, heal them, let them end in good order; how many terms that took.

    Raises ``AssertionError`` if a promise was broken: P1, P2 and P5 at any instant, P6 after the last fault.
    """
    stopping: list[asyncio.Task[None]] = []
    async with a_crew() as crew:
        for _ in range(size):
            await crew.join()
        for happening, pause in script:
            if happening.what == "join":
                await crew.join()
            else:
                for member in chosen(crew, happening):
                    begun = EVENTS[happening.what](member, happening)
                    if isinstance(begun, Coroutine):
                        stopping.append(asyncio.create_task(begun))
            await crew.clock.advance(pause)
            assert len(crew.leaders()) <= 1, "P1: two lead"
        await _recovers(crew)
        await _ends(crew)
        await asyncio.gather(*stopping)
    return sum(line.event == "begin" for line in crew.pool.history)


async def _recovers(crew: Crew) -> None:
    """Liveness: after the last fault somebody leads, in bounded time, and goes on leading."""
    for member in crew.members:
        heal(member)
    await crew.clock.settle()  # who stood still in a release that had failed, ends only now
    for member in crew.members:
        if member.task.done():
            member.crash()  # a process that has ended gives back even what it failed to release
    await crew.join()  # everybody else may have crashed or stopped
    await crew.clock.advance(RECOVERY)
    assert len(crew.leaders()) == 1, f"P6: {len(crew.leaders())} lead after {RECOVERY:g} s without a fault"
    (leader,) = crew.leaders()
    terms = len(leader.terms)
    await crew.clock.advance(60)
    assert (crew.leaders(), len(leader.terms)) == ([leader], terms), "P6: it does not lead on"
    assert leader.elector.trouble is None


async def _ends(crew: Crew) -> None:
    """Told to stop, all of them do, the seat is free, and no elector has broken."""
    for member in crew.members:
        member.elector.stop()
    await crew.clock.advance(RETRY_AT_MOST)
    assert crew.pool.holder is None
    for member in crew.members:
        assert member.task.done()
        if not member.task.cancelled():
            assert member.task.exception() is None
            assert member.elector.role is Role.STOPPED
