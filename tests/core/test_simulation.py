"""Pools of up to hundreds of workers that live through whatever Hypothesis thinks of, judged by their history.

P1, P2 and P5 hold at every instant; and when the faults end, somebody leads within bounded time (P6).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from election.core.elector import RETRY_AT_MOST
from election.core.errors import SeatError
from election.core.roles import Role
from tests.core.crew import HEARTBEAT, Crew, Member, a_crew

LONGEST = 5.0
"""Seconds that any fault here takes at most."""

RECOVERY = RETRY_AT_MOST + HEARTBEAT + 4 * LONGEST
"""Seconds within which somebody leads when there are no more faults: a back-off, a heartbeat that notices a loss, a
campaign, drain and release that had been slow when they began, and a campaign of somebody else."""

ERRORS = [SeatError("disk full"), OSError(28, "No space left"), RuntimeError("nobody thought of this")]

# --- what may happen: to the leader, if there is one, or to any worker --------------------------------------------


@dataclass(frozen=True)
class Event:
    """``what`` happens to the leader if ``whom`` is None, else to the worker with that index (modulo their number)."""

    what: str
    whom: int | None
    seconds: float
    error: Exception

    def __repr__(self) -> str:
        return f"{self.what}({'leader' if self.whom is None else self.whom}, {self.seconds:g}, {self.error!r})"


def _set(name: str) -> Callable[[Member, Event], None]:
    def fault(member: Member, event: Event) -> None:
        value = event.error if name.endswith("raises") else event.seconds
        setattr(member if hasattr(member, name) else member.seat, name, value)

    return fault


def _heal(member: Member, event: Event | None = None) -> None:
    member.drain_takes = member.seat.campaign_takes = member.seat.release_takes = 0.0
    member.entry_raises = member.exit_raises = None
    member.seat.campaign_raises = member.seat.beat_raises = member.seat.release_raises = None


EVENTS: dict[str, Callable[[Member, Event], Any]] = {
    "crash": lambda member, _: member.crash(),
    "resign": lambda member, _: member.elector.request_resignation(),
    "take away": lambda member, _: member.seat.take_away(),
    "stop": lambda member, _: member.elector.stop(),
    "stop with the pool": lambda member, _: member.elector.stop_with_the_pool(),
    "cancel": lambda member, _: member.task.cancel(),
    "heal": _heal,
    **{
        name: _set(name)
        for name in (
            "drain_takes", "release_takes", "campaign_takes",
            "campaign_raises", "beat_raises", "release_raises", "entry_raises", "exit_raises",
        )
    },
}  # fmt: skip

events = st.builds(
    Event,
    what=st.sampled_from([*EVENTS, *["join", "heal", "crash", "resign", "take away"] * 2]),
    whom=st.none() | st.integers(0, 299),
    seconds=st.sampled_from([0.0, 0.1, 0.7, LONGEST]),
    error=st.sampled_from(ERRORS),
)
pauses = st.sampled_from([0.0, 0.0, 0.05, 0.3, 1.0, 10.0])


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The faults are many, and each is told in the log."""
    log = logging.getLogger("election")
    before = log.level
    log.setLevel(logging.CRITICAL)
    yield
    log.setLevel(before)


async def live(size: int, script: list[tuple[Event, float]]) -> None:
    """Let ``size`` workers live through the script, heal them, and let them end in good order."""
    stopping: list[asyncio.Task[None]] = []
    async with a_crew() as crew:
        for _ in range(size):
            await crew.join()
        for happening, pause in script:
            if happening.what == "join":
                await crew.join()
            else:
                for member in _chosen(crew, happening):
                    begun = EVENTS[happening.what](member, happening)
                    if isinstance(begun, Coroutine):
                        stopping.append(asyncio.create_task(begun))
            await crew.clock.advance(pause)
            assert len(crew.leaders()) <= 1
        await _recovers(crew)
        await _ends(crew)
        await asyncio.gather(*stopping)
        event(f"terms: {min(len([line for line in crew.pool.history if line.event == 'begin']) // 5 * 5, 20)} or more")


def _chosen(crew: Crew, happening: Event) -> list[Member]:
    if happening.whom is None:
        return crew.leaders()
    living = [member for member in crew.members if not member.crashed]
    return [living[happening.whom % len(living)]] if living else []


async def _recovers(crew: Crew) -> None:
    """Liveness: after the last fault somebody leads, in bounded time, and goes on leading."""
    for member in crew.members:
        _heal(member)
        if member.task.done():
            member.crash()  # a process that has ended gives back even what it failed to release
    await crew.join()  # everybody else may have crashed or stopped
    await crew.clock.advance(RECOVERY)
    (leader,) = crew.leaders()
    terms = len(leader.terms)
    await crew.clock.advance(60)
    assert crew.leaders() == [leader]
    assert len(leader.terms) == terms
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


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(size=st.integers(1, 8), script=st.lists(st.tuples(events, pauses), min_size=10, max_size=60))
def test_a_few_workers_keep_the_promises(size: int, script: list[tuple[Event, float]]) -> None:
    """P1, P2, P5, P6: many short lives, in which everything goes wrong at once."""
    asyncio.run(live(size, script))


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(size=st.integers(100, 300), script=st.lists(st.tuples(events, pauses), min_size=10, max_size=30))
def test_hundreds_of_workers_keep_the_promises(size: int, script: list[tuple[Event, float]]) -> None:
    """P1, P2, P5, P6: the same in a crowd."""
    asyncio.run(live(size, script))


@pytest.mark.anyio
async def test_a_hundred_leaders_die_one_after_the_other() -> None:
    """P2, P6: each death is one term, at once, down to the last worker."""
    async with a_crew() as crew:
        for _ in range(100):
            await crew.join()
        for _ in range(100):
            (leader,) = crew.leaders()
            leader.crash()
            await crew.clock.settle()
        assert crew.leaders() == []
        assert [line.term for line in crew.pool.history if line.event == "begin"] == list(range(1, 101))
        assert {line.time for line in crew.pool.history} == {0.0}, "no time passed in between"


@pytest.mark.anyio
async def test_the_seat_goes_round() -> None:
    """DESIGN "resign": fifty resignations in a row, and the work of no two terms overlaps, however slow its end is."""
    async with a_crew() as crew:
        for number in range(10):
            await crew.join(drain_takes=number / 10, release_takes=number / 20)
        for _ in range(50):
            (leader,) = crew.leaders()
            assert leader.elector.request_resignation()
            await crew.clock.advance(2)
        assert [line.term for line in crew.pool.history if line.event == "begin"] == list(range(1, 52))
        assert all(len(member.terms) >= 3 for member in crew.members), "each had its turn"


def test_the_same_script_gives_the_same_history() -> None:
    """A failure that Hypothesis finds can be found again."""

    async def history() -> list[object]:
        async with a_crew() as crew:
            for _ in range(20):
                await crew.join(campaign_takes=0.1)
            for number in range(20):
                await crew.clock.advance(0.1)
                for member in crew.leaders():
                    member.crash() if number % 2 else member.elector.request_resignation()
            return list(crew.pool.history)

    assert asyncio.run(history()) == asyncio.run(history())
