"""A term of the file engine in words: its number and its record, how they begin, and how they end.

Promises P2: the number is larger than any that the record, its own file or the ledger know, and on the disk before
anybody can see it. Whoever calls this holds the flock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from datetime import datetime
from typing import Any

from election.core.backend import TermHistory, last_known_term
from election.core.clock import Clock
from election.core.errors import PoolPathError, SeatError
from election.core.events import named
from election.core.process import ProcessIdentity
from election.core.term import LeaderRecord, Standing, Takeover, Term, reason_after

from .directory import PoolDirectory
from .last_words import LastWords
from .lock import Identity, LockFile
from .records import LeaderRecords
from .rival import seat_id
from .storage import DurableNumber, to_the_end

log = logging.getLogger("election")


class Office:
    """What the holder of the flock says of its term.

    memory: the ledger, which is asked for the last term; None where there is none.
    """

    def __init__(
        self,
        directory: PoolDirectory,
        lock: LockFile,
        records: LeaderRecords,
        clock: Clock,
        memory: TermHistory | None,
    ) -> None:
        self._directory = directory
        self._lock = lock
        self._records = records
        self._clock = clock
        self._memory = memory
        self.number = DurableNumber(directory.term)
        self._last_words = LastWords(directory.last_words)
        self.term: Term | None = None
        self.record: LeaderRecord | None = None
        """What the pool was told last; None without a term."""
        self.last_told: LeaderRecord | None = None
        """The same, though there may be no term any more, or there was none after all."""
        self._unsaid: str | None = None

    async def take(
        self, process: ProcessIdentity, held: Identity, before: LeaderRecord | None, *, followed: bool
    ) -> Term | None:
        """Begin a term after ``before``; None if the lock file was swapped meanwhile, and the record says so by then.

        To be called within ``number.alone()``. Raises ``OSError`` and ``SeatError``; nobody is left to believe in a
        term that did not begin.
        """
        now = self._clock.now()
        number = max(self.number.read(), before.term if before else 0) + 1
        # Side by side, because opening the ledger and syncing the number take a millisecond each.
        asked = asyncio.ensure_future(last_known_term(self._memory, before))
        try:
            await to_the_end(lambda: self.number.write(number))
        finally:
            last, fenced = await asked
        written, number = number, max(number, last + 1)
        if before is not None and before.standing is Standing.LEADING:  # of no other is there anything to read
            fenced = fenced or self._last_words.read() is not None
        reason = reason_after(before, followed=followed, fenced=fenced)
        takeover = Takeover(
            number, before.holder.pid if before else None, process.pid, reason, now, vacant_s=self._vacant(before, now)
        )
        record = LeaderRecord(number, process, seat_id(held), now, takeover)

        def tell() -> bool:
            if number != written:
                self.number.write(number)
            self._records.write(record)
            if self._lock.is_current():  # looked at only now: whoever wins another lock file later, reads our record
                self._last_words.pass_on(takeover.from_pid)
                return True
            self._records.end(record, Standing.LOST, self._clock.now())
            return False

        def take_back() -> None:
            with contextlib.suppress(OSError):
                if self._records.read() == record:
                    self._records.end(record, Standing.RESIGNED, self._clock.now())

        try:
            begun = await to_the_end(tell)
        except BaseException:
            await to_the_end(take_back)
            raise
        self.last_told = record
        if begun:
            self.term, self.record = Term(number, now, takeover), record
        return self.term

    def _vacant(self, before: LeaderRecord | None, now: datetime) -> float | None:
        since = (before.ended_at or self._records.beaten_at()) if before else None
        return None if since is None else max(0.0, round((now - since).total_seconds(), 3))

    def say(self, **changes: Any) -> None:
        """Say something else in the record of our term."""
        assert self.record is not None
        record = replace(self.record, **changes)
        try:
            if self._records.is_ours():
                self._records.write(record)
                self.record, self._unsaid = record, None
        except OSError as error:  # what it would say more is no reason to end a term
            if str(error) != self._unsaid:  # it is tried with every heartbeat
                log.warning(
                    "the record could not be told %s: %s", ", ".join(changes), error, extra=named("record_not_updated")
                )
            self._unsaid = str(error)

    def warn_off(self) -> None:
        """Put the record back if it is gone, so that nobody leads on another lock file before our work has ended."""
        assert self.record is not None
        with contextlib.suppress(OSError, SeatError, PoolPathError):
            self._directory.prepare()
            if not self._records.write_if_absent(self.record) and self._records.read() is None:
                self._records.write(self.record)  # over what nobody can understand
            self._records.beat()  # for those who cannot look at our process

    async def leave(self, standing: Standing) -> None:
        """Say in the record how the term ended. Never raises, because the seat has to be given up all the same.

        Not while somebody takes office on another lock file: the record that is ours now would be theirs when we
        write over it, and nobody could read of them.
        """
        assert self.record is not None
        record = self.record

        def tell() -> None:
            why: object = "another worker begins one"
            try:
                with self.number.alone() as alone:
                    if alone:
                        self._records.end(record, standing, self._clock.now())
                        return
            except OSError as error:
                why = error
            log.warning(
                "the record could not be told that term %d ended: %s",
                record.term,
                why,
                extra=named("term_end_unrecorded"),
            )

        await to_the_end(tell)

    def close(self) -> None:
        """There is no term any more."""
        self.term = self.record = None
