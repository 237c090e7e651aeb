"""What a thread finds out, waited for where the event loop stands: shortly, and as long as that is worth it.

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

AT_A_TIME = 0.005
"""Seconds that the event loop stands still."""

PAUSE = 0.005
"""Seconds until it does so again, if it was in vain; twice as long each time, until work is done at once again."""

PAUSE_AT_MOST = 20 * AT_A_TIME


class Patience:
    """An event loop's patience with one thread."""

    def __init__(self) -> None:
        self._pause = PAUSE
        self._spent_until = 0.0

    def on_the_spot(self, work: Future[_T]) -> asyncio.Future[_T]:
        """What ``work`` comes to, which as a rule is there already; see ``in_passing``."""
        if time.monotonic() >= self._spent_until and self._stand_still(work):
            self._pause = PAUSE
        awaited = _Awaited(work)
        self._stand_still_later(awaited)
        return awaited.found

    def _stand_still(self, work: Future[Any]) -> bool:
        with contextlib.suppress(TimeoutError):  # that of the moment; what the work raised is returned here
            work.exception(AT_A_TIME)
        if not work.done():
            self._spent_until = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, PAUSE_AT_MOST)
        return work.done()

    def _stand_still_later(self, awaited: _Awaited[Any]) -> None:
        if not awaited.found.done():
            pause = max(0.0, self._spent_until - time.monotonic())
            asyncio.get_running_loop().call_later(pause, self._stand_still_again, awaited)

    def _stand_still_again(self, awaited: _Awaited[Any]) -> None:
        if not awaited.found.done():
            self._stand_still(awaited.work)
            awaited.look()
            self._stand_still_later(awaited)


def in_passing(work: Future[_T]) -> asyncio.Future[_T]:
    """What ``work`` comes to, as soon as the event loop passes by. A task that is cancelled while it awaits this is so
    only when the work has ended, since work in a thread cannot be called off."""
    return _Awaited(work).found


class _ToItsEnd(asyncio.Future[_T]):
    """Cannot be cancelled; a task that awaits it is, as asyncio has it, once it goes on."""

    def cancel(self, msg: Any | None = None) -> bool:
        self.add_done_callback(_known)
        return False


def _known(found: asyncio.Future[Any]) -> None:
    """Nobody will ask what was raised, of which asyncio would complain."""
    found.exception()


class _Awaited(Generic[_T]):
    """Work in a thread, and the future that tells the event loop what it came to."""

    def __init__(self, work: Future[_T]) -> None:
        self.work = work
        self._loop = asyncio.get_running_loop()
        self.found: asyncio.Future[_T] = _ToItsEnd(loop=self._loop)
        self.look()
        if not self.found.done():
            work.add_done_callback(self._wake)

    def look(self) -> None:
        """Tell what it came to, if it has ended."""
        if self.found.done() or not self.work.done():
            return
        error = self.work.exception()
        if error is None:
            self.found.set_result(self.work.result())
        else:
            self.found.set_exception(error)

    def _wake(self, _: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits any more
            self._loop.call_soon_threadsafe(self.look)
