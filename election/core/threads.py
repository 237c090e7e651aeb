"""The election's own threads, for calls that would block the event loop.

The event loop's default executor belongs to the application, which may keep all of its threads busy: meanwhile no
worker could be elected, or resign.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")

MAX_THREADS = 4
"""Threads in a process, for all of its pools."""

_executors: dict[int, ThreadPoolExecutor] = {}


def submit(executor: ThreadPoolExecutor, function: Callable[..., _T], /, *args: Any) -> Future[_T]:
    """Like ``executor.submit``, but a call whose thread cannot be started is never made.

    The executor itself queues the call before it starts a thread. When that fails, at a limit of threads, it raises,
    and the next thread that is free makes the call all the same.
    """
    work: Future[_T] = Future()

    def call() -> None:
        if not work.set_running_or_notify_cancel():
            return
        try:
            found = function(*args)
        except BaseException as error:
            work.set_exception(error)
        else:
            work.set_result(found)

    try:
        executor.submit(call)
    except BaseException:
        if work.cancel():
            raise  # else a thread has become free meanwhile, and makes it
    return work


def run_in_thread(function: Callable[[], _T]) -> asyncio.Future[_T]:
    """Run ``function`` in one of the election's own threads; the future is its result.

    A function that is cancelled while it runs goes on to its end.
    """
    executor = _executors.get(os.getpid())
    if executor is None:  # in a forked child the parent's threads do not exist
        _executors.clear()
        executor = _executors[os.getpid()] = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="election")
    return asyncio.wrap_future(submit(executor, function))


def run_in_short_lived_thread(function: Callable[[], _T]) -> asyncio.Future[_T]:
    """Run ``function`` in a thread that ends with it: for the start, after which a follower needs no such thread."""
    executor = ThreadPoolExecutor(1, thread_name_prefix="election-start")
    try:
        return asyncio.get_running_loop().run_in_executor(executor, function)
    finally:
        executor.shutdown(wait=False)


def run_in_daemon_thread(function: Callable[[], _T], name: str) -> asyncio.Future[_T]:
    """Run ``function``, which may hang but does not raise, in a thread of its own that keeps no process from ending."""
    work: Future[_T] = Future()
    work.set_running_or_notify_cancel()  # so that it takes a result, whether or not somebody still waits for it
    threading.Thread(target=lambda: work.set_result(function()), name=name, daemon=True).start()
    return asyncio.wrap_future(work)


def in_passing(work: Future[_T]) -> asyncio.Future[_T]:
    """Result of ``work``, set by the event loop when the work has ended.

    A task that is cancelled meanwhile is cancelled when the work has ended: work in a thread cannot be called off.
    """
    return Awaited(work).found


class _Uncancellable(asyncio.Future[_T]):
    """Future that ignores ``cancel``; asyncio cancels a task that awaits it once the task goes on."""

    def cancel(self, msg: Any | None = None) -> bool:
        self.add_done_callback(_consume_exception)
        return False


def _consume_exception(found: asyncio.Future[Any]) -> None:
    """Mark the exception as retrieved, so that asyncio does not log it."""
    found.exception()


class Awaited(Generic[_T]):
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


async def resolve(host: str, port: int | str | None) -> list[str]:
    """Addresses of a host, each once, in the resolver's order. Raises ``OSError`` if it has none."""
    with contextlib.suppress(ValueError):
        return [str(ipaddress.ip_address(host))]
    found = await run_in_thread(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
