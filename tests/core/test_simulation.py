"""Pools of up to hundreds of workers under events drawn by Hypothesis, judged by their history.

P1, P2 and P5 hold at every instant; after the last fault a worker leads within bounded time (P6).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from election.core.errors import SeatError
from tests.core.simulation import EVENTS, EVERYBODY, LONGEST, Event, live
from tests.support.simulated import simulated_pool

ERRORS = [SeatError("disk full"), OSError(28, "No space left"), RuntimeError("nobody thought of this")]

events = st.builds(
    Event,
    what=st.sampled_from([*EVENTS, *["join", "heal", "crash", "resign", "take away"] * 2]),
    whom=st.none() | st.integers(EVERYBODY, 299),
    seconds=st.sampled_from([0.0, 0.1, 0.7, LONGEST]),
    error=st.sampled_from(ERRORS),
)
pauses = st.sampled_from([0.0, 0.0, 0.05, 0.3, 1.0, 10.0])


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """There are many faults, and each is logged."""
    log = logging.getLogger("election")
    before = log.level
    log.setLevel(logging.CRITICAL)
    yield
    log.setLevel(before)


FEW = {"size": st.integers(1, 8), "script": st.lists(st.tuples(events, pauses), min_size=10, max_size=60)}


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(**FEW)
def test_a_few_workers_keep_the_promises(size: int, script: list[tuple[Event, float]]) -> None:
    """P1, P2, P5, P6: many short simulations with all faults at once."""
    terms = asyncio.run(live(size, script))
    event(f"terms: {min(terms // 5 * 5, 20)} or more")


@pytest.mark.extended
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(**FEW)
def test_a_few_workers_keep_the_promises_in_more_lives(size: int, script: list[tuple[Event, float]]) -> None:
    """The same, with five times as many examples."""
    asyncio.run(live(size, script))


@pytest.mark.extended
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(size=st.integers(100, 300), script=st.lists(st.tuples(events, pauses), min_size=10, max_size=30))
def test_hundreds_of_workers_keep_the_promises(size: int, script: list[tuple[Event, float]]) -> None:
    """P1, P2, P5, P6: the same with many workers."""
    terms = asyncio.run(live(size, script))
    event(f"terms: {min(terms // 5 * 5, 20)} or more")


@pytest.mark.anyio
@pytest.mark.extended
async def test_a_hundred_leaders_die_one_after_the_other() -> None:
    """P2, P6: each death is followed by one term, at once, down to the last worker."""
    async with simulated_pool() as pool:
        for _ in range(100):
            await pool.join()
        for _ in range(100):
            (leader,) = pool.leaders()
            leader.crash()
            await pool.clock.settle()
        assert pool.leaders() == []
        assert [line.term for line in pool.memory.history if line.event == "begin"] == list(range(1, 101))
        assert {line.time for line in pool.memory.history} == {0.0}, "no time passed in between"


@pytest.mark.anyio
async def test_the_seat_goes_round() -> None:
    """Fifty resignations in a row: the work of no two terms overlaps, however slowly it ends (P5)."""
    async with simulated_pool() as pool:
        for number in range(10):
            await pool.join(drain_takes=number / 10, release_takes=number / 20)
        for _ in range(50):
            (leader,) = pool.leaders()
            assert leader.elector.request_resignation()
            await pool.clock.advance(2)
        assert [line.term for line in pool.memory.history if line.event == "begin"] == list(range(1, 52))
        assert all(len(worker.terms) >= 3 for worker in pool.workers), "each had its turn"


def test_the_same_script_gives_the_same_history() -> None:
    """A failure found by Hypothesis can be reproduced."""

    async def history() -> list[object]:
        async with simulated_pool() as pool:
            for _ in range(20):
                await pool.join(campaign_takes=0.1)
            for number in range(20):
                await pool.clock.advance(0.1)
                for worker in pool.leaders():
                    worker.crash() if number % 2 else worker.elector.request_resignation()
            return list(pool.memory.history)

    assert asyncio.run(history()) == asyncio.run(history())
