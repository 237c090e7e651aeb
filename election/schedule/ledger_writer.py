"""Batches the ledger writes of a term: commands that come while a transaction is under way go into the next.

So ticks that fall due together are claimed together, and a burst of a thousand jobs takes a handful of commits.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from election.core.clock import Clock, first, yield_to_loop
from election.core.errors import LedgerError, LedgerVersionError, StaleTermError
from election.core.events import named
from election.core.logs import log

from .commands import Entry, FinishRun, Skip
from .ledger import Ledger
from .model import Tick

MAX_WAIT_S = 0.005
"""Seconds of a wait for claims, about as long as a slice of jobs takes: in a burst, some claim always waits."""

_OF_THE_ENTRY = TypeError, ValueError, OverflowError, RecursionError
"""Errors that a value raises which no ledger can hold."""


class LedgerWriter:
    """Writes the claims and results of one term.

    Args:
        ledger: Ledger of the leader.
        term: Number of the term.
        is_held: Returns whether the seat is still held, determined anew.
        on_failure: Called when the ledger cannot be written: claims have failed, results wait for ``resume``.
        on_stale: Called when a later term has begun.
    """

    def __init__(
        self,
        ledger: Ledger,
        term: int,
        *,
        is_held: Callable[[], bool],
        on_failure: Callable[[Exception], None],
        on_stale: Callable[[StaleTermError], None],
    ) -> None:
        self._ledger = ledger
        self._term = term
        self._is_held = is_held
        self._on_failure = on_failure
        self._on_stale = on_stale
        self._results: list[Entry] = []
        self._under_way: list[Entry] = []
        self._claims: list[_Claims] = []
        self._writing: asyncio.Future[list[bool]] | None = None
        self._answered = asyncio.Event()
        """Set while no claim waits for its answer."""
        self._answered.set()
        self._is_scheduled = False
        self._lost: StaleTermError | None = None
        """Why no more claims are made: a later tick would leave those behind whose claims were refused (P4)."""
        self._is_doubtful = False
        """Whether one of the entries may be what could not be written; then they are written one by one."""

    def claim(
        self, entries: Sequence[Entry], on_done: Callable[[asyncio.Future[list[bool]]], object] = lambda _: None
    ) -> asyncio.Future[list[bool]]:
        """Claim and skip ticks, or write a plan; for each entry, whether it was granted. Nothing is overtaken (P4).

        The future raises ``StaleTermError``, ``LedgerError`` or any other error of the write; then no entry was
        written.

        on_done: Called with the future as soon as it is done, one turn of the event loop before a task that awaits it
            goes on. It raises nothing.
        """
        granted: asyncio.Future[list[bool]] = asyncio.get_running_loop().create_future()
        self._claims.append(_Claims(entries, granted, on_done))
        self._answered.clear()
        self._write_soon()
        return granted

    def holds_seat(self) -> bool:
        """Whether the seat is still held; if not, the term is over.

        A loop that was blocked may ask before its next heartbeat, which may find that the seat is held again.
        """
        if self._lost is None and not self._is_held():
            self._lost = StaleTermError(f"the seat of term {self._term} is no longer held")
            self._on_stale(self._lost)
        return self._lost is None

    async def wait_for_claims(self, clock: Clock) -> None:
        """Return when no claim waits for its answer, or after ``MAX_WAIT_S``."""
        if not self._answered.is_set():
            await first(self._answered.wait(), clock.sleep(MAX_WAIT_S))

    def append(self, *entries: Entry) -> None:
        """Write results; they are kept until they can be written."""
        self._results += entries
        self._write_soon()

    def unwritten(self) -> set[Tick]:
        """Ticks whose run has ended, but is not settled in the ledger yet."""
        ended = (_run_that_ended(entry) for entry in [*self._under_way, *self._results])
        return {tick for tick in ended if tick is not None}

    def resume(self) -> None:
        """Go on writing, because the ledger can be written again."""
        self._write_soon()

    async def close(self) -> int:
        """Wait until all results are written or the ledger fails; returns how many were not written."""
        self.write()
        while self._writing is not None or self._is_scheduled:
            if self._writing is not None:
                await asyncio.wait([self._writing])
            await yield_to_loop()
        return len(self._results)

    def write(self) -> None:
        """Write all queued entries now; if a write is under way, after it."""
        if self._writing is not None or not (self._results or self._claims):
            return
        results, self._results = self._results, []
        claims, self._claims = self._claims, []
        if self._is_doubtful and results:
            results, self._results = results[:1], results[1:]
            claims, self._claims = [], claims
        elif self._is_doubtful:
            claims, self._claims = claims[:1], claims[1:]
        if claims and not self.holds_seat():
            assert self._lost is not None
            self._refuse_all(claims, self._lost)
            claims = []
        self._under_way = results
        entries = _entries_of(results, claims)
        if not entries:
            return
        writing = asyncio.ensure_future(self._recorded(entries))
        if writing.done():
            self._written(results, claims, writing)
        else:
            self._writing = writing
            writing.add_done_callback(functools.partial(self._written, results, claims))

    def _recorded(self, entries: Sequence[Entry]) -> Awaitable[list[bool]]:
        try:
            return self._ledger.record(self._term, entries)
        except Exception as error:  # for example, no thread could be started
            failed: asyncio.Future[list[bool]] = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            return failed

    def _write_soon(self) -> None:
        """Include the commands of the same turn of the event loop."""
        if not self._is_scheduled and self._writing is None and (self._results or self._claims):
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._write_soonest)

    def _write_soonest(self) -> None:
        self._is_scheduled = False
        self.write()

    def _written(
        self, results: Sequence[Entry], claims: Sequence[_Claims], writing: asyncio.Future[list[bool]]
    ) -> None:
        self._writing = None
        self._under_way = []
        if writing.cancelled():  # the event loop itself goes down
            error: BaseException | None = LedgerError("the write was cancelled")
        else:
            error = writing.exception()
        if error is None:
            self._is_doubtful = self._is_doubtful and bool(self._results or self._claims)
            answers = iter(writing.result()[len(results) :])
            for claim in claims:
                claim.grant([next(answers) for _ in claim.entries])
            if not self._claims:
                self._answered.set()
            self._write_soon()
        elif isinstance(error, StaleTermError):
            self._lost = error
            self._refuse_all(claims, error)
            self._on_stale(error)
        elif isinstance(error, Exception):
            if not isinstance(error, LedgerError | LedgerVersionError):
                if self._is_doubtful and len(results) + len(claims) == 1 and isinstance(error, _OF_THE_ENTRY):
                    log.error("an entry of the ledger cannot be written, and is left out: %s",
                              str(_entries_of(results, claims)[0])[:300],
                              exc_info=error, extra=named("entry_unwritable"))  # fmt: skip
                    self._refuse(claims, error)
                    self._write_soon()
                    return
                self._is_doubtful = isinstance(error, _OF_THE_ENTRY)
                log.error("the ledger could not be written", exc_info=error, extra=named("ledger_write_crashed"))
            self._results[:0] = results
            self._refuse_all(claims, error)
            self._on_failure(error)
        else:
            raise error

    def _refuse_all(self, claims: Sequence[_Claims], error: Exception) -> None:
        """Refuse these claims, and those that wait behind them."""
        later, self._claims = self._claims, []
        self._refuse([*claims, *later], error)

    def _refuse(self, claims: Sequence[_Claims], error: Exception) -> None:
        for claim in claims:
            claim.refuse(error)
        if not self._claims:
            self._answered.set()


@dataclass(frozen=True, slots=True)
class _Claims:
    """Entries of one claim, and the future of their answers."""

    entries: Sequence[Entry]
    granted: asyncio.Future[list[bool]]
    on_done: Callable[[asyncio.Future[list[bool]]], object]

    def grant(self, answers: list[bool]) -> None:
        if not self.granted.done():
            self.granted.set_result(answers)
            self.on_done(self.granted)

    def refuse(self, error: Exception) -> None:
        if not self.granted.done():
            self.granted.set_exception(error)
            self.granted.exception()  # a skip is not awaited
            self.on_done(self.granted)


def _entries_of(results: Sequence[Entry], claims: Sequence[_Claims]) -> list[Entry]:
    return [*results, *(entry for claim in claims for entry in claim.entries)]


def _run_that_ended(entry: Entry) -> Tick | None:
    match entry:
        case FinishRun(tick):
            return tick
        case Skip(claimed=True):
            return Tick(entry.job_id, entry.first_due, entry.request)
    return None
