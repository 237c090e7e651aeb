"""Waits up to 5 ms for the ledger thread without yielding to the event loop; backs off when that does not pay.

A thread that works beside a busy event loop gets the interpreter's lock back only after its switch interval of 5 ms,
each time that it has let go of it, as it does with every statement: a transaction of 0.2 ms took 50 ms and more. And
each turn of a loop that serves requests takes milliseconds. So the loop stands still for the thread, which is done
before the next request would have been; and a disk that is slow, or hangs, takes a twentieth of the loop at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")

MAX_WAIT_S = 0.005
"""Seconds that the event loop is blocked."""

MIN_PAUSE_S = 0.005
"""Seconds until the next wait after one in vain; doubled each time, until work is done in time again."""

MAX_PAUSE_S = 20 * MAX_WAIT_S


class BoundedWait:
    """Waits for the work of one thread, on its event loop."""

    def __init__(self) -> None:
        self._pause = MIN_PAUSE_S
        self._spent_until = 0.0

    def wait_briefly(self, work: Future[_T]) -> asyncio.Future[_T]:
        """Result of ``work``, which as a rule is there already; see ``in_passing``."""
        if time.monotonic() >= self._spent_until and self._wait(work):
            self._pause = MIN_PAUSE_S
        awaited = _Awaited(work)
        self._wait_later(awaited)
        return awaited.found

    def _wait(self, work: Future[Any]) -> bool:
        with contextlib.suppress(TimeoutError):  # of this wait; an error of the work is returned
            work.exception(MAX_WAIT_S)
        if not work.done():
            self._spent_until = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, MAX_PAUSE_S)
        return work.done()

    def _wait_later(self, awaited: _Awaited[Any]) -> None:
        if not awaited.found.done():
            pause = max(0.0, self._spent_until - time.monotonic())
            asyncio.get_running_loop().call_later(pause, self._wait_again, awaited)

    def _wait_again(self, awaited: _Awaited[Any]) -> None:
        if not awaited.found.done():
            self._wait(awaited.work)
            awaited.look()
            self._wait_later(awaited)


def in_passing(work: Future[_T]) -> asyncio.Future[_T]:
    """Result of ``work``, set by the event loop when the work has ended.

    A task that is cancelled meanwhile is cancelled when the work has ended: work in a thread cannot be called off.
    """
    return _Awaited(work).found


class _Uncancellable(asyncio.Future[_T]):
    """Future that ignores ``cancel``; asyncio cancels a task that awaits it once the task goes on."""

    def cancel(self, msg: Any | None = None) -> bool:
        self.add_done_callback(_consume_exception)
        return False


def _consume_exception(found: asyncio.Future[Any]) -> None:
    """Mark the exception as retrieved, so that asyncio does not log it."""
    found.exception()


class _Awaited(Generic[_T]):
    """Work in a thread, and the event loop's future of its result."""

    def __init__(self, work: Future[_T]) -> None:
        self.work = work
        self._loop = asyncio.get_running_loop()
        self.found: asyncio.Future[_T] = _Uncancellable(loop=self._loop)
        self.look()
        if not self.found.done():
            work.add_done_callback(self._wake)

    def look(self) -> None:
        """Set the result, if the work has ended."""
        if self.found.done() or not self.work.done():
            return
        error = self.work.exception()
        if error is None:
            self.found.set_result(self.work.result())
        else:
            self.found.set_exception(error)

    def _wake(self, _: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nothing awaits the result
            self._loop.call_soon_threadsafe(self.look)
