"""Database connection in a thread, which runs one whole transaction at a time.

With an asyncio driver, each statement would be a round trip to a thread or through the event loop, and a claim has five
statements. Nor can a busy event loop hold a transaction open here.
"""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from election.core.threads import in_passing, submit

from .bounded_wait import BoundedWait

_T = TypeVar("_T")
_C = TypeVar("_C")

_INHERITED: list[object] = []
"""Connections of the parent in a forked child, kept because they may be neither used nor closed there."""


class ThreadedDatabase(ABC, Generic[_C]):
    """Common part of all databases, see ``database.Database``. Opens the connection at the first use."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._closed: Future[None] | None = None
        self._connection: _C | None = None
        self._pid = 0
        self._waiting = BoundedWait()

    at_hand = False
    """Whether a write usually takes less than a millisecond, because no other process takes part in it."""

    async def read(self, function: Callable[[Any], _T]) -> _T:
        """Run ``function`` on one snapshot of the database. Raises ``LedgerError``."""
        return await in_passing(self._submitted(self._read, function))

    async def write(self, function: Callable[[Any], _T]) -> _T:
        """Run ``function`` in one atomic transaction. Raises ``LedgerError``, and the errors of ``function``."""
        return await self.written(function)

    async def write_urgently(self, function: Callable[[Any], _T]) -> _T:
        """See ``database.Database``."""
        return await in_passing(self._submitted(self._write_urgently, function))

    def written(self, function: Callable[[Any], _T]) -> asyncio.Future[_T]:
        """Like ``write``, as a future that cannot be cancelled and may be done already."""
        work = self._submitted(self._write, function)
        return self._waiting.wait_briefly(work) if self.at_hand else in_passing(work)

    async def close(self) -> None:
        """Close the connection and end the thread. A call meanwhile, for example by a request, reopens it."""
        thread, self._thread = self._thread, None
        if thread is None or self._pid != os.getpid():
            return  # a forked child inherits no thread, and may not touch the connection
        self._closed = thread.submit(self._disconnect)
        thread.shutdown(wait=False)
        closed = in_passing(self._closed)
        await asyncio.wait([closed])  # a cancelled caller need not wait for a disk that hangs
        closed.result()

    @abstractmethod
    def _read(self, function: Callable[[Any], _T]) -> _T:
        """``read``, in the thread."""

    @abstractmethod
    def _write(self, function: Callable[[Any], _T]) -> _T:
        """``write``, in the thread."""

    def _write_urgently(self, function: Callable[[Any], _T]) -> _T:
        """``write_urgently``, in the thread; to be replaced where ``_write`` waits long for other writers."""
        return self._write(function)

    @abstractmethod
    def _disconnect(self) -> None:
        """Close the connection, if there is one, in the thread."""

    def _submitted(self, how: Callable[[Callable[[Any], _T]], _T], function: Callable[[Any], _T]) -> Future[_T]:
        if self._pid != os.getpid():
            if self._connection is not None:
                _INHERITED.append(self._connection)
            self._pid, self._connection, self._thread, self._closed = os.getpid(), None, None, None
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="election-ledger")
            if self._closed is not None:
                self._thread.submit(self._closed.exception)  # closing a connection in use crashes Python
        return submit(self._thread, how, function)
