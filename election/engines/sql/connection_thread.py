"""A database connection in one thread of its own, that is used for a whole transaction at a time.

Not an asyncio driver: there each statement is a trip to a thread or through the event loop and back, and a claim has
five of them. Nor can a busy event loop hold a transaction open.
"""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from election.core.threads import in_passing

from .bounded_wait import BoundedWait

_T = TypeVar("_T")
_C = TypeVar("_C")

_INHERITED: list[object] = []
"""A parent's connections, in its forked child: they may not be used there, nor closed."""


class ThreadedDatabase(ABC, Generic[_C]):
    """Common part of all databases, see ``database.Database``. Opens the connection at the first use."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._closed: Future[None] | None = None
        self._connection: _C | None = None
        self._pid = 0
        self._waiting = BoundedWait()

    at_hand = False
    """Whether a write takes less than a millisecond as a rule, since nobody else's process takes part in it."""

    async def read(self, function: Callable[[Any], _T]) -> _T:
        """Run ``function``, which sees one state of things however often it looks. Raises ``LedgerError``."""
        return await in_passing(self._submitted(self._read, function))

    async def write(self, function: Callable[[Any], _T]) -> _T:
        """Run ``function`` in one transaction, all of it or nothing. Raises ``LedgerError``, and what it raises."""
        return await self.written(function)

    def written(self, function: Callable[[Any], _T]) -> asyncio.Future[_T]:
        """The same, as a future that cannot be cancelled, and that may be done already."""
        work = self._submitted(self._write, function)
        return self._waiting.wait_briefly(work) if self.at_hand else in_passing(work)

    async def close(self) -> None:
        """Close the connection and end the thread. What is asked for meanwhile, by a request say, opens it again."""
        thread, self._thread = self._thread, None
        if thread is None or self._pid != os.getpid():
            return  # a forked child inherits no thread, and may not touch the connection
        self._closed = thread.submit(self._disconnect)
        thread.shutdown(wait=False)
        closed = in_passing(self._closed)
        await asyncio.wait([closed])  # who is cancelled here need not wait for a disk that hangs
        closed.result()

    @abstractmethod
    def _read(self, function: Callable[[Any], _T]) -> _T:
        """``read``, in the thread."""

    @abstractmethod
    def _write(self, function: Callable[[Any], _T]) -> _T:
        """``write``, in the thread."""

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
                self._thread.submit(self._closed.exception)  # a connection that is closed while it is used ends Python
        return self._thread.submit(how, function)
