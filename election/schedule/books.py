"""Writes to the ledger in groups: what comes up while one transaction is under way goes into the next.

So ticks that fall due together are claimed together, and a burst of a thousand jobs takes a handful of commits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from election.core.errors import LedgerError, LedgerVersionError, StaleTermError

from .facts import Entry, Settle, Skip, Tick
from .ledger import Ledger

log = logging.getLogger("election")


class Books:
    """The ledger as one term writes it.

    holds: whether the seat is still held, worked out anew.
    on_trouble: told when the ledger cannot be written; claims have failed then, notes wait for ``resume``.
    on_stale: told when a later term has begun.
    """

    def __init__(
        self,
        ledger: Ledger,
        term: int,
        *,
        holds: Callable[[], bool],
        on_trouble: Callable[[Exception], None],
        on_stale: Callable[[StaleTermError], None],
    ) -> None:
        self._ledger = ledger
        self._term = term
        self._holds = holds
        self._on_trouble = on_trouble
        self._on_stale = on_stale
        self._notes: list[Entry] = []
        self._under_way: list[Entry] = []
        self._claims: list[tuple[Sequence[Entry], asyncio.Future[list[bool]]]] = []
        self._writing: asyncio.Task[None] | None = None

    def claim(self, entries: Sequence[Entry]) -> asyncio.Future[list[bool]]:
        """Claim and skip ticks; for each entry, whether it was granted.

        The future raises ``StaleTermError``, ``LedgerError`` or whatever keeps the ledger from being written; then
        none of the entries was.
        """
        granted: asyncio.Future[list[bool]] = asyncio.get_running_loop().create_future()
        self._claims.append((entries, granted))
        self._write_soon()
        return granted

    def note(self, *entries: Entry) -> None:
        """Write what has happened; it is kept until it can be written."""
        self._notes += entries
        self._write_soon()

    def unwritten(self) -> set[Tick]:
        """The ticks whose run has ended, without the ledger's knowing yet."""
        ended = (_run_that_ended(entry) for entry in [*self._under_way, *self._notes])
        return {tick for tick in ended if tick is not None}

    def resume(self) -> None:
        """The ledger can be written again."""
        self._write_soon()

    async def close(self) -> int:
        """Wait until all is written or nothing can be; returns how many notes were not."""
        self._write_soon()
        while self._writing is not None:
            await asyncio.wait([self._writing])
            await asyncio.sleep(0)
        return len(self._notes)

    def _write_soon(self) -> None:
        if self._writing is None and (self._notes or self._claims):
            self._writing = asyncio.get_running_loop().create_task(self._write(), name="election ledger")

    async def _write(self) -> None:
        try:
            while self._notes or self._claims:
                if not await self._write_once():
                    return
        finally:
            self._writing = None

    async def _write_once(self) -> bool:
        notes, self._notes = self._notes, []
        claims, self._claims = self._claims, []
        if claims and not self._holds():  # a loop that was blocked may come to this before its next heartbeat
            lost = StaleTermError(f"the seat of term {self._term} is no longer held")
            self._refuse(claims, lost)
            self._on_stale(lost)
            claims = []
        self._under_way = notes
        entries = [*notes, *(entry for group, _ in claims for entry in group)]
        try:
            results = iter((await self._ledger.record(self._term, entries))[len(notes) :])
        except StaleTermError as error:
            self._refuse(claims, error)
            self._on_stale(error)
            return False
        except Exception as error:
            if not isinstance(error, LedgerError | LedgerVersionError):
                log.exception("the ledger could not be written")
            self._notes[:0] = notes
            self._refuse(claims, error)
            self._on_trouble(error)
            return False
        finally:
            self._under_way = []
        for group, granted in claims:
            answers = [next(results) for _ in group]
            if not granted.done():
                granted.set_result(answers)
        return True

    def _refuse(self, claims: Sequence[tuple[Sequence[Entry], asyncio.Future[list[bool]]]], error: Exception) -> None:
        later, self._claims = self._claims, []
        for _, granted in (*claims, *later):
            if not granted.done():
                granted.set_exception(error)
                granted.exception()  # who only skipped does not wait for it


def _run_that_ended(entry: Entry) -> Tick | None:
    match entry:
        case Settle(tick):
            return tick
        case Skip(claimed=True):
            return Tick(entry.job_id, entry.first_due, entry.request)
    return None
