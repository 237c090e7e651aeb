"""Threads that the code of a run starts in the event loop's executors, so that a term does not end before them (P5).

``asyncio.to_thread`` and ``loop.run_in_executor`` both end in the loop's method of that name, which is wrapped for the
time of a term. A coroutine that is cancelled while it awaits such a thread leaves the thread running. Threads that are
started in other ways (``threading.Thread``, a pool of processes) cannot be seen.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from election.core.clock import yield_to_loop


class RunThreads:
    """Threads of one attempt, in which its code runs or is going to run."""

    def __init__(self) -> None:
        self._calls: set[_Call] = set()

    def running(self) -> bool:
        return bool(self._calls)

    async def ended(self) -> None:
        """Return when none of them runs."""
        while self._calls:
            await asyncio.wait([call.ended for call in self._calls])
            await yield_to_loop()

    def add(self, call: _Call) -> None:
        self._calls.add(call)
        call.ended.add_done_callback(lambda _: self._calls.discard(call))


_threads: ContextVar[RunThreads | None] = ContextVar("election_run_threads", default=None)


def count_threads_in(threads: RunThreads) -> None:
    """Count the executor calls of code in the current context."""
    _threads.set(threads)


@contextmanager
def counting_threads(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Within the scope, count the calls in executors that runs make on ``loop``."""
    current: Any = loop.run_in_executor
    counted = current if isinstance(current, _CountedCalls) else _CountedCalls(loop)
    loop.run_in_executor = counted  # type: ignore[assignment,method-assign]
    counted.terms += 1
    try:
        yield
    finally:
        counted.terms -= 1
        if not counted.terms and vars(loop).get("run_in_executor") is counted:
            counted.remove()


class _CountedCalls:
    """``run_in_executor`` of an event loop while terms are under way in it: of several pools, perhaps."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.terms = 0
        self._loop = loop
        self._former, self._was_wrapped = loop.run_in_executor, "run_in_executor" in vars(loop)

    def __call__(self, executor: Executor | None, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        threads = _threads.get()
        if threads is None or not (executor is None or isinstance(executor, ThreadPoolExecutor)):
            return self._former(executor, func, *args)
        call = _Call(self._loop, func, args)
        future = self._former(executor, call)
        threads.add(call)
        future.add_done_callback(call.answered)
        return future

    def remove(self) -> None:
        if self._was_wrapped:
            self._loop.run_in_executor = self._former  # type: ignore[method-assign]
        else:
            del self._loop.run_in_executor  # the class has its own


class _Call:
    """A call in an executor, which may begin and end after the future of its result was cancelled."""

    def __init__(self, loop: asyncio.AbstractEventLoop, func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._loop = loop
        self._func = func
        self._args = args
        self._lock = threading.Lock()
        self._has_begun = self._is_abandoned = False
        self.ended: asyncio.Future[None] = loop.create_future()

    def __call__(self) -> Any:
        with self._lock:
            if self._is_abandoned:
                return None
            self._has_begun = True
        try:
            return self._func(*self._args)
        finally:
            with suppress(RuntimeError):  # the event loop is closed
                self._loop.call_soon_threadsafe(self._end)

    def answered(self, future: asyncio.Future[Any]) -> None:
        """The future is done: with the call, or because it was cancelled, before the call began or during it."""
        with self._lock:
            self._is_abandoned = not self._has_begun
        if self._is_abandoned or not future.cancelled():
            self._end()

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
