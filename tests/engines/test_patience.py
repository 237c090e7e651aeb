"""The event loop waits for a thread where it stands: for moments, and never for a disk that hangs."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from election.engines.sql.patience import AT_A_TIME, PAUSE_AT_MOST, Patience, in_passing

pytestmark = pytest.mark.anyio

HANGS = 60 * AT_A_TIME


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_what_is_quick_is_there_without_a_turn_of_the_loop() -> None:
    with ThreadPoolExecutor(1) as thread:
        thread.submit(int).result()
        patience = Patience()
        done = [patience.on_the_spot(thread.submit(int, "7")).done() for _ in range(100)]
    assert sum(done) > 90, "some may have waited for a core"


async def test_what_it_raises_is_raised() -> None:
    with ThreadPoolExecutor(1) as thread:
        for wait in (Patience().on_the_spot, in_passing):
            with pytest.raises(ValueError, match="seven"):
                await wait(thread.submit(int, "seven"))
            with pytest.raises(TimeoutError, match="its own"):
                await wait(thread.submit(_raise, TimeoutError("its own")))


async def test_p8_a_thread_that_hangs_takes_moments_from_the_loop() -> None:
    go_on, stood = Event(), 0.0
    with ThreadPoolExecutor(1) as thread:
        began = time.monotonic()
        found = Patience().on_the_spot(thread.submit(go_on.wait, 60))
        while time.monotonic() - began < HANGS:
            before = time.thread_time(), time.monotonic()
            await asyncio.sleep(0)
            if (took := time.monotonic() - before[1]) > AT_A_TIME / 2:
                stood += took
        assert not found.done()
        go_on.set()
        assert await found is True
    assert stood < HANGS / 3, "with pauses that double: at 0, 10, 25 and 50 ms, and so on"


async def test_p8_a_thread_that_is_always_slow_takes_a_twentieth_of_the_loop() -> None:
    """A disk that takes 10 ms for each commit: the loop is stood still for a few of them, not for each."""
    patience, stood, began = Patience(), 0.0, time.monotonic()
    with ThreadPoolExecutor(1) as thread:
        while time.monotonic() - began < 10 * PAUSE_AT_MOST:
            before = time.monotonic()
            found = patience.on_the_spot(thread.submit(time.sleep, 3 * AT_A_TIME))
            stood += time.monotonic() - before
            await found
    assert stood < (time.monotonic() - began) / 5, "and less, the longer it lasts"


async def test_p5_who_is_cancelled_goes_on_when_the_thread_has_ended() -> None:
    for wait in (Patience().on_the_spot, in_passing):
        go_on = Event()
        with ThreadPoolExecutor(1) as thread:

            async def ask() -> None:
                await wait(thread.submit(_fail_after, go_on))  # noqa: B023

            task = asyncio.create_task(ask())
            await asyncio.sleep(0)
            task.cancel()
            for _ in range(20):
                await asyncio.sleep(0)
            assert not task.done()
            go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await task


def test_a_loop_that_is_gone_is_told_nothing() -> None:
    go_on = Event()
    with ThreadPoolExecutor(1) as thread:

        async def ask() -> None:
            in_passing(thread.submit(go_on.wait, 60))

        asyncio.run(ask())
        go_on.set()


def _raise(error: Exception) -> None:
    raise error


def _fail_after(go_on: Event) -> None:
    assert go_on.wait(60)
    raise ValueError("nobody asks for this")
