"""What a thread finds out, waited for where the event loop stands: shortly, and as long as that is worth it.

A thread that works beside a busy event loop gets the interpreter's lock back only after its switch interval of 5 ms,
each time that it has let go of it, as it does with every statement: a transaction of 0.2 ms took 50 ms and more. And
each turn of a loop that serves requests takes milliseconds. So the loop stands still for the thread, which is done
before the next request would have been; and a disk that hangs takes only moments, ever further apart, from the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")

AT_A_TIME = 0.005
"""Seconds that the event loop stands still."""

PAUSE = 0.005
"""Seconds until it does so again, if it was in vain; twice as long each time."""


def in_passing(work: Future[_T]) -> asyncio.Future[_T]:
    """What ``work`` comes to, as soon as the event loop passes by. A task that is cancelled while it awaits this is so
    only when the work has ended, since work in a thread cannot be called off."""
    return _Awaited(work).found


def on_the_spot(work: Future[_T]) -> asyncio.Future[_T]:
    """The same, for which the event loop stands still a moment, and which is done after it as a rule."""
    with contextlib.suppress(TimeoutError):  # that of the moment; what the work raised is returned here
        work.exception(AT_A_TIME)
    awaited = _Awaited(work)
    awaited.stand_still_again_after(PAUSE)
    return awaited.found


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
        self._work = work
        self._loop = asyncio.get_running_loop()
        self.found: asyncio.Future[_T] = _ToItsEnd(loop=self._loop)
        if work.done():
            self._tell()
        else:
            work.add_done_callback(self._wake)

    def stand_still_again_after(self, pause: float) -> None:
        if not self.found.done():
            self._loop.call_later(pause, self._stand_still, 2 * pause)

    def _stand_still(self, pause: float) -> None:
        if not self.found.done():
            with contextlib.suppress(TimeoutError):
                self._work.exception(AT_A_TIME)
            if self._work.done():
                self._tell()
            self.stand_still_again_after(pause)

    def _wake(self, _: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits any more
            self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        if self.found.done():
            return
        error = self._work.exception()
        if error is None:
            self.found.set_result(self._work.result())
        else:
            self.found.set_exception(error)
