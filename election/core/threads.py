"""Threads of the election's own, for calls that would block the event loop.

The event loop's default executor belongs to the application, which may keep all of its threads busy: nobody could be
elected, or resign, for as long as that lasts.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")

MAX_THREADS = 4
"""Threads in a process, for all of its pools."""

_executors: dict[int, ThreadPoolExecutor] = {}


def run_in_thread(function: Callable[[], _T]) -> asyncio.Future[_T]:
    """Run ``function`` in a thread of the election's own; the future is its result.

    A function that is cancelled while it runs goes on to its end.
    """
    executor = _executors.get(os.getpid())
    if executor is None:  # in a forked child the parent's threads do not exist
        _executors.clear()
        executor = _executors[os.getpid()] = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="election")
    return asyncio.get_running_loop().run_in_executor(executor, function)


async def resolve(host: str, port: int | str | None) -> list[str]:
    """Addresses of a host, each once, in the resolver's order. Raises ``OSError`` if it has none."""
    with contextlib.suppress(ValueError):
        return [str(ipaddress.ip_address(host))]
    found = await run_in_thread(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
