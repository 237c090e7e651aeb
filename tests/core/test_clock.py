"""Tests of ``first`` and of the machine's clock."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta

import pytest

from election.core.clock import SystemClock, call_later, first, time_limit
from election.testing import ManualClock

pytestmark = pytest.mark.anyio


async def never(ended: list[str], name: str = "never") -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)  # a wait may take a moment to end
        ended.append(name)


async def test_first_ends_the_others_before_it_returns() -> None:
    """Every wait has ended when the scope is left."""
    ended: list[str] = []
    await first(never(ended, "a"), asyncio.sleep(0), never(ended, "b"))
    assert sorted(ended) == ["a", "b"]


async def test_first_raises_what_the_first_raised() -> None:
    """An error in a wait is raised, and the other waits have ended."""
    ended: list[str] = []

    async def fails() -> None:
        raise OSError("no descriptors left")

    with pytest.raises(OSError, match="no descriptors left"):
        await first(never(ended), fails())
    assert ended == ["never"]


async def test_first_can_be_cancelled_and_takes_the_waits_along() -> None:
    """No part of a cancelled wait continues in the background."""
    ended: list[str] = []
    waiting = asyncio.create_task(first(never(ended, "a"), never(ended, "b")))
    await ManualClock().settle()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert sorted(ended) == ["a", "b"]


async def test_first_cancelled_while_it_ends_the_others_still_waits_for_them() -> None:
    """P5: the same when the cancellation comes at the worst moment, and a wait is slow to end."""
    ended: list[str] = []
    clock = ManualClock()

    async def ends_slowly() -> None:
        while clock.monotonic() < 1:
            with contextlib.suppress(asyncio.CancelledError):
                await clock.sleep(1)
        ended.append("slowly")

    async def waits() -> None:
        try:
            await first(ends_slowly(), asyncio.sleep(0))
        finally:
            ended.append("first")

    waiting = asyncio.create_task(waits())
    await clock.settle()
    waiting.cancel()
    await clock.settle()
    assert ended == []
    await clock.advance(1)
    in_order = ["slowly", "first"]
    assert ended == in_order
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_first_lets_a_shielded_wait_go_on() -> None:
    """``asyncio.wait`` in ``first`` does not cancel the tasks it waits for; the shutdown waits for the elector like
    this.
    """
    task = asyncio.create_task(asyncio.Event().wait())
    await first(asyncio.wait([task]), asyncio.sleep(0))
    assert not task.cancelled()
    assert not task.done()
    task.cancel()


async def test_a_time_limit_is_measured_by_the_clock() -> None:
    clock, ended = ManualClock(), []

    async def limited(seconds: float) -> None:
        try:
            async with time_limit(clock, 2) as limit:
                await clock.sleep(seconds)
        finally:
            ended.append((clock.monotonic(), limit.expired()))

    late, early, cancelled = (asyncio.create_task(limited(seconds)) for seconds in (9, 1, 9))
    await clock.settle()
    cancelled.cancel()
    await clock.advance(9)
    assert ended == [(0, False), (1, False), (2, True)]
    await early
    with pytest.raises(TimeoutError):
        await late
    assert cancelled.cancelled()


async def test_what_is_to_be_called_later_can_be_called_off() -> None:
    clock, called = ManualClock(), []
    call_later(clock, 1, lambda: called.append(clock.monotonic()))
    off = call_later(clock, 1, lambda: called.append(-1))
    await clock.advance(0.5)
    off.cancel()
    await clock.advance(1)
    assert called == [1]


async def test_the_system_clock_is_the_machines() -> None:
    """docs/pitfalls.md#26: due times are in UTC; waits use the monotonic clock, which ``sleep`` advances."""
    clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(0.01)
    assert clock.monotonic() - before >= 0.01
    assert clock.now().tzinfo is UTC
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=5)


def test_pitfall_70_the_time_asleep_counts() -> None:
    """A lease that ran out during a suspend is not trusted after it."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    found = SystemClock().monotonic()
    assert before <= found <= time.clock_gettime(time.CLOCK_BOOTTIME)


async def test_a_call_by_the_machines_clock_is_no_turn_later_than_a_timer_of_the_loop() -> None:
    order: list[str] = []
    loop, both = asyncio.get_running_loop(), asyncio.Event()
    call_later(SystemClock(), 0.01, lambda: order.append("ours"))
    loop.call_at(loop.time() + 0.01, lambda: (order.append("the loop's"), both.set()))
    await both.wait()
    assert order == ["ours", "the loop's"]
