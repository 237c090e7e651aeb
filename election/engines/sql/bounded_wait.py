"""Waits up to 5 ms for the ledger thread without yielding to the event loop; backs off when that does not pay.

Beside a busy event loop, a thread gets the GIL back only after the switch interval of 5 ms, and it releases the GIL
with every statement: a transaction of 0.2 ms took 50 ms and more. Each iteration of a loop that serves requests adds
milliseconds. So the loop blocks for the thread, which ends its work before the next request would have ended; a slow or
hanging disk takes a twentieth of the loop's time at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from concurrent.futures import Future
from typing import Any, TypeVar

from election.core.threads import Awaited

_T = TypeVar("_T")

MAX_WAIT_S = 0.005
"""Maximum seconds for which one wait blocks the event loop."""

MIN_PAUSE_S = 0.005
"""Seconds from a wait that timed out to the next one; doubled each time, until work ends in time."""

MAX_PAUSE_S = 20 * MAX_WAIT_S


class BoundedWait:
    """Waits for the work of one thread, on its event loop."""

    def __init__(self) -> None:
        self._pause = MIN_PAUSE_S
        self._spent_until = 0.0

    def wait_briefly(self, work: Future[_T]) -> asyncio.Future[_T]:
        """Result of ``work``, usually done already; see ``core.threads.in_passing``."""
        if time.monotonic() >= self._spent_until and self._wait(work):
            self._pause = MIN_PAUSE_S
        awaited = Awaited(work)
        self._wait_later(awaited)
        return awaited.found

    def _wait(self, work: Future[Any]) -> bool:
        with contextlib.suppress(TimeoutError):  # of this wait; an error of the work is returned
            work.exception(MAX_WAIT_S)
        if not work.done():
            self._spent_until = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, MAX_PAUSE_S)
        return work.done()

    def _wait_later(self, awaited: Awaited[Any]) -> None:
        if not awaited.found.done():
            pause = max(0.0, self._spent_until - time.monotonic())
            asyncio.get_running_loop().call_later(pause, self._wait_again, awaited)

    def _wait_again(self, awaited: Awaited[Any]) -> None:
        if not awaited.found.done():
            self._wait(awaited.work)
            awaited.look()
            self._wait_later(awaited)
