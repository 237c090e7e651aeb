"""Bounded wait of the event loop for a thread: short, and never for a disk that hangs."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

import pytest

from election.core.threads import in_passing
from election.engines.sql import bounded_wait as bounded_wait_module
from election.engines.sql.bounded_wait import MAX_PAUSE_S, MAX_WAIT_S, BoundedWait

pytestmark = pytest.mark.anyio

HANGS = 60 * MAX_WAIT_S


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Work(Future[bool]):
    """Work that ends when the test allows it; counts the seconds that the loop was ready to block for it."""

    stood = 0.0

    def exception(self, timeout: float | None = None) -> BaseException | None:
        if timeout is not None:
            Work.stood += timeout
        return super().exception(timeout)


async def test_what_is_quick_is_there_without_a_turn_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_wait_module, "MAX_WAIT_S", 30.0)  # the thread may have to wait for a core
    with ThreadPoolExecutor(1) as thread:
        wait = BoundedWait()
        assert all(wait.wait_briefly(thread.submit(int, "7")).done() for _ in range(100))


async def test_what_it_raises_is_raised() -> None:
    with ThreadPoolExecutor(1) as thread:
        for wait in (BoundedWait().wait_briefly, in_passing):
            with pytest.raises(ValueError, match="seven"):
                await wait(thread.submit(int, "seven"))
            with pytest.raises(TimeoutError, match="its own"):
                await wait(thread.submit(_raise, TimeoutError("its own")))


async def test_p8_a_thread_that_hangs_takes_moments_from_the_loop() -> None:
    work, before, began = Work(), Work.stood, time.monotonic()
    found = BoundedWait().wait_briefly(work)
    while time.monotonic() - began < HANGS:
        await asyncio.sleep(0)
    assert not found.done()
    work.set_result(True)
    assert await found is True
    assert 0 < Work.stood - before < HANGS / 3, "with pauses that double: at 0, 10, 25 and 50 ms, and so on"


async def test_p8_a_thread_that_is_always_slow_takes_a_twentieth_of_the_loop() -> None:
    """A disk that takes 10 ms for each commit: the loop blocks for a few of them, not for each."""
    wait, before, began = BoundedWait(), Work.stood, time.monotonic()
    while time.monotonic() - began < 10 * MAX_PAUSE_S:
        work = Work()
        asyncio.get_running_loop().call_later(3 * MAX_WAIT_S, work.set_result, True)
        await wait.wait_briefly(work)
    assert 0 < Work.stood - before < (time.monotonic() - began) / 5, "and less, the longer it lasts"


async def test_p5_who_is_cancelled_goes_on_when_the_thread_has_ended() -> None:
    for wait in (BoundedWait().wait_briefly, in_passing):
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
