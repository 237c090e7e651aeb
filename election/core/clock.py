"""Time as an argument: the wall clock for due times, the monotonic one for waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

EPOCH = datetime.fromtimestamp(0, UTC)
"""Start of Unix time."""


class Clock(Protocol):
    """Source of time of everything that schedules or waits; ``election.testing.ManualClock`` moves by hand."""

    def now(self) -> datetime:
        """The wall clock, in UTC."""

    def monotonic(self) -> float:
        """Seconds that never step back and include the time that the machine was asleep (docs/pitfalls.md#70)."""

    async def sleep(self, seconds: float) -> None:
        """Return when ``seconds`` of monotonic time have passed."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return since_boot() / 1e9

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def since_boot() -> int:
    """Nanoseconds since boot, with the time asleep; orders events of one boot independently of the wall clock."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


async def yield_to_loop() -> None:
    """Let the event loop run everything that is ready, once."""
    await asyncio.sleep(0)


class Timer(Protocol):
    """A call that is due later."""

    def cancel(self) -> object:
        """Call it off."""


def call_later(clock: Clock, seconds: float, callback: Callable[[], object]) -> Timer:
    """Call ``callback`` on the event loop after ``seconds``.

    By the machine's clock in a timer of the loop: a task that sleeps goes on a turn later, and under load a turn takes
    milliseconds.
    """
    loop = asyncio.get_running_loop()
    if type(clock) is SystemClock:
        return loop.call_later(seconds, callback)

    async def wait_and_call() -> None:
        await clock.sleep(seconds)
        callback()

    return loop.create_task(wait_and_call(), name="election timer")


@asynccontextmanager
async def time_limit(clock: Clock, seconds: float) -> AsyncIterator[asyncio.Timeout]:
    """``asyncio.timeout`` on ``clock``: raise ``TimeoutError`` when the scope lasts longer than ``seconds``."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        timer = call_later(clock, seconds, lambda: limit.reschedule(loop.time()))
        try:
            yield limit
        finally:
            timer.cancel()


async def ends_within(work: asyncio.Future[Any], clock: Clock, seconds: float) -> bool:
    """Return whether ``work`` ends within ``seconds``, and not by being cancelled; if not, it goes on."""
    await first(asyncio.wait([work]), clock.sleep(seconds))
    return work.done() and not work.cancelled()


async def first(*waits: Awaitable[Any]) -> None:
    """Return when the first of ``waits`` has ended and the others, which are then cancelled, have ended too.

    Raises the exception of a wait that ended first.
    """
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def is_cancelled() -> bool:
    """Return whether the current task has been cancelled, also if another exception has masked the cancellation."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def reraise_if_cancelled(error: BaseException) -> None:
    """Raise ``CancelledError`` if the current task was cancelled and ``error`` has masked that."""
    if is_cancelled():
        raise asyncio.CancelledError from error
