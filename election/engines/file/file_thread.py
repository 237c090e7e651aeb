"""Thread for all file operations of a seat: a stalled disk blocks no event loop (P8, docs/pitfalls.md#48)."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from election.core.events import named
from election.core.logs import log
from election.core.threads import in_passing, submit

_T = TypeVar("_T")

MAX_WAIT_S = 0.05
"""Seconds that a read waits for the disk; after that the cached state is used."""

STALLED_AFTER_S = 1.0
"""Seconds without an answer after which a disk is reported as stalled."""

LATE_S = 0.5
"""Seconds by which a busy event loop may be late; a later one stood still itself, and the disk gets its time anew."""


class FileThread:
    """Runs file operations one after the other, outside of the event loop.

    Args:
        path: Directory of the files, for messages.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._executor: ThreadPoolExecutor | None = None
        self._pid = 0
        self._stalled_since: float | None = None
        self._waiting: dict[Future[Any], asyncio.TimerHandle] = {}
        """Work that the disk has not answered yet, and when it is reported as stalled."""
        self._looks: dict[Callable[[], object], tuple[asyncio.Future[Any], float]] = {}
        """Reads in progress and the deadline of their callers, by function."""

    def run(self, function: Callable[[], _T]) -> asyncio.Future[_T]:
        """Return the result of ``function``; a cancelled caller still waits for its end.

        No write may continue after its lock was released. Raises ``OSError`` if no thread can be started, which may
        pass.
        """
        if self._executor is None or self._pid != os.getpid():  # in a forked child the parent's thread does not exist
            self._executor, self._pid = ThreadPoolExecutor(1, thread_name_prefix="election-files"), os.getpid()
            self._stalled_since, self._waiting = None, {}
        try:
            work = submit(self._executor, function)
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, f"no thread can be started: {error}") from error
        found = in_passing(work)
        if not found.done():
            self._wait(work, asyncio.get_running_loop().time())
            found.add_done_callback(lambda _: self._answers(work))
        return found

    async def run_briefly(self, function: Callable[[], object]) -> None:
        """Run a function that reads the files; return when it has ended, or after ``MAX_WAIT_S``.

        Concurrent callers share one run and its deadline.
        """
        loop, (looking, until) = asyncio.get_running_loop(), self._looks.get(function, (None, 0.0))
        if looking is None or looking.done() or looking.get_loop() is not loop:
            looking, until = self.run(function), loop.time() + MAX_WAIT_S
            self._looks[function] = looking, until
        if not looking.done() and (patience_s := until - loop.time()) > 0:
            await asyncio.wait([looking], timeout=patience_s)

    @property
    def problem(self) -> str | None:
        """Problem text while the disk is stalled; None otherwise."""
        if self._stalled_since is None:
            return None
        waited_s = asyncio.get_running_loop().time() - self._stalled_since
        return f"the disk of {self._path} has not answered for {waited_s:.0f} s; until it does, no run can begin"

    def close(self) -> None:
        """End the thread after its pending work; the next ``run`` starts a new one."""
        if self._executor is not None and self._pid == os.getpid():
            self._executor.shutdown(wait=False)
        self._executor = None

    def _wait(self, work: Future[Any], since: float) -> None:
        loop = asyncio.get_running_loop()
        self._waiting[work] = loop.call_later(STALLED_AFTER_S, self._stalls, work, since, loop.time())

    def _stalls(self, work: Future[Any], since: float, waiting_since: float) -> None:
        if work.done():
            return  # the loop is late, and has not taken the answer yet
        if asyncio.get_running_loop().time() - waiting_since > STALLED_AFTER_S + LATE_S:
            self._wait(work, since)  # the process may have been stopped, and the work with it
        elif self._stalled_since is None:
            self._stalled_since = since
            log.warning("%s", self.problem, extra=named("disk_stalled"))

    def _answers(self, work: Future[Any]) -> None:
        self._waiting.pop(work).cancel()
        if self._stalled_since is not None:
            waited_s = asyncio.get_running_loop().time() - self._stalled_since
            self._stalled_since = None
            log.warning("the disk of %s answers again, after %.1f s", self._path, waited_s, extra=named("disk_answers"))
