"""Count of the open transactions in a ledger's thread, for which a ``ManualClock`` waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from election.schedule.ledger import Ledger


class LedgerThread:
    """The thread of ``ledger``, seen from its event loop."""

    def __init__(self, ledger: Ledger) -> None:
        store: Any = ledger.store
        database = store.database
        self._under_way = 0
        self._written: Callable[..., asyncio.Future[Any]] = database.written
        database.read, database.close = self._counted(database.read), self._counted(database.close)
        database.written = self._count_written

    @property
    def busy(self) -> bool:
        """Whether the event loop waits for the thread."""
        return self._under_way > 0

    def _counted(self, function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def counted(*arguments: Any) -> Any:
            self._under_way += 1
            try:
                return await function(*arguments)
            finally:
                self._under_way -= 1

        return counted

    def _count_written(self, *arguments: Any) -> asyncio.Future[Any]:
        written = self._written(*arguments)
        self._under_way += 1
        written.add_done_callback(self._has_written)
        return written

    def _has_written(self, _: object) -> None:
        self._under_way -= 1
