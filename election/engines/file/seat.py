"""The seat of the file engine: a flock, and what makes a flock enough.

Promises P1 on one host, P2, P6, P7 and P8. Winning the flock is not yet leading: the lock file may have been swapped
while its holder leads on, so a winner leads only if the record allows it (``rival.py`` decides).
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from election.core.clock import Clock
from election.core.errors import LedgerError, PoolInUseError, PoolPathError, SeatError, SeatLostError
from election.core.process import ProcessIdentity, current_process
from election.core.seat import Observation, Worker
from election.core.term import LeaderRecord, Standing, Takeover, Term, reason_after

from .directory import PoolDirectory
from .fifo import AliveFifo
from .lock import Identity, LockFile
from .presence import Presence
from .records import LeaderRecords
from .rival import is_flocked, is_rival, seat_id, standoff
from .sight import Sight, leads
from .storage import DurableNumber, to_the_end
from .watch import Watch

log = logging.getLogger("election")

SETTLE_HEARTBEATS = 2.0
"""How long a winner waits that finds no record, so that a leader whose directory was taken away has noticed."""

_in_use: dict[str, FileSeat] = {}
"""The pools this process takes part in. A reference here also keeps a seat held that may not be released (P5)."""


class FileSeat:
    """Implements ``election.core.seat.Seat`` on a directory.

    directory: where the pool lives.
    heartbeat, safety_poll: seconds, as in ``Election``.
    last_term: asks for the largest term that the ledger knows.
    """

    def __init__(
        self,
        directory: PoolDirectory,
        *,
        heartbeat: float,
        safety_poll: float,
        clock: Clock,
        last_term: Callable[[], Awaitable[int]] | None = None,
    ) -> None:
        self._directory = directory
        self._heartbeat = heartbeat
        self._safety_poll = safety_poll
        self._clock = clock
        self._last_term = last_term
        self._lock = LockFile(directory.lock)
        self._records = LeaderRecords(directory.record)
        self._number = DurableNumber(directory.term)
        self._fifo = AliveFifo(directory.alive)
        self._watch = Watch(self._fifo, safety_poll=safety_poll)
        self._presence = Presence(directory.workers)
        self._process: ProcessIdentity | None = None
        self._tenure: tuple[Term, LeaderRecord] | None = None
        self._sight = Sight(self._records)
        self._has_followed = False
        self._standoff: str | None = None
        self._standoff_told: str | None = None

    async def open(self) -> None:
        other = _in_use.get(self._directory.path)
        if other is not None and other._process and other._process.pid == os.getpid():
            raise PoolInUseError(
                f"this process already takes part in the pool {self._directory.path};"
                " share one Election, or give the second one a pool of its own"
            )
        try:
            self._process = current_process()
            self._presence.enter(self._process, self._clock.now())
        except OSError as error:  # may pass: the first campaign meets it again, and tells
            log.warning("this worker cannot say that it takes part: %s", error)
        _in_use[self._directory.path] = self

    async def close(self) -> None:
        if self._lock.identity is None and _in_use.get(self._directory.path) is self:
            del _in_use[self._directory.path]
        self._watch.close()
        self._presence.leave()

    async def campaign(self) -> Term | None:
        self._standoff = None
        try:
            self._directory.prepare()
            if self._process is None or self._process.pid != os.getpid():
                self._process = current_process()
                self._presence.enter(self._process, self._clock.now())
            self._presence.renew()
            held = self._lock.acquire()
            if held is None:
                self._has_followed = True
                return None
            return await self._take_office(self._process, held)
        except OSError as error:
            raise SeatError(f"{error.strerror}: {error.filename or self._directory.path}") from error

    async def _take_office(self, process: ProcessIdentity, held: Identity) -> Term | None:
        """From the flock to the term. Whatever happens here, the flock is either a term's or free again."""
        term = None
        try:
            previous = self._records.read() or self._sight.last_seen
            if previous is None:
                await self._clock.sleep(SETTLE_HEARTBEATS * self._heartbeat)
                previous = self._records.read()
            if self._may_lead(previous, held) and self._lock.is_current():
                term = await self._begin_term(process, held, previous)
        finally:
            if term is None:
                self._give_up()
        return term

    def _may_lead(self, previous: LeaderRecord | None, held: Identity) -> bool:
        if previous is None or previous.seat_id == seat_id(held) or previous.holder == self._process:
            return True  # a worker that campaigns does not lead, though its record may not have been told so
        alive = previous.holder.is_alive()
        flocked = None if alive is None else is_flocked(previous.seat_id, held)
        if alive is None:  # in another container, whose locks are not listed here either: the heartbeat has to tell
            alive = self._sight.heart_beats(4 * self._heartbeat)
        if is_rival(previous, held, alive=alive, flocked=flocked):
            self._standoff = standoff(self._directory.lock, previous)
            if self._standoff != self._standoff_told:
                log.error("%s", self._standoff)
            self._standoff_told = self._standoff
            return False
        return self._records.read() in {previous, None}  # or it has told its end just now, and the next try knows it

    async def _begin_term(self, process: ProcessIdentity, held: Identity, before: LeaderRecord | None) -> Term | None:
        now = self._clock.now()
        number = max(self._number.read(), before.term if before else 0, await self._term_in_ledger()) + 1
        reason = reason_after(before, followed=self._has_followed)
        takeover = Takeover(number, before.holder.pid if before else None, process.pid, reason, now)
        record = LeaderRecord(number, process, seat_id(held), now, takeover)
        self._fifo.hold()  # before anybody can read of us, so that nobody misses the hang-up

        def tell() -> bool:
            self._number.write(number)
            self._records.write(record)
            if self._lock.is_current():  # looked at only now: whoever wins another lock file later, reads our record
                return True
            self._records.end(record, Standing.LOST, self._clock.now())
            return False

        def take_back() -> None:
            with contextlib.suppress(OSError):
                if self._records.read() == record:
                    self._records.end(record, Standing.RESIGNED, self._clock.now())

        try:
            if not await to_the_end(tell):
                return None
        except BaseException:
            await to_the_end(take_back)
            raise
        self._tenure, self._has_followed = (Term(number, now, takeover), record), True
        return self._tenure[0]

    async def _term_in_ledger(self) -> int:
        try:
            return await self._last_term() if self._last_term else 0
        except LedgerError as error:
            log.warning("the ledger was not asked for the last term: %s", error)
        return 0

    async def vacancy(self) -> None:
        try:
            await self._watch.vacancy(self._sight.look)
        except OSError:  # no descriptors left, say; what it is, the next campaign tells
            await self._clock.sleep(self._safety_poll)

    def held(self) -> Term | None:
        return self._tenure[0] if self._tenure is not None and self._lock.is_current() else None

    async def confirm(self, takeover_ms: float) -> None:
        assert self._tenure is not None
        takeover = self._tenure[1].takeover
        self._retell(takeover=replace(takeover, takeover_ms=round(takeover_ms, 2)))

    async def beat(self, problem: str | None = None) -> None:
        try:
            self._lock.check()
            self._records.beat()
        except SeatLostError:
            self._warn_off()
            raise
        if self._tenure and self._tenure[1].problem != problem:
            self._retell(problem=problem)
        self._presence.renew()

    def _retell(self, **changes: Any) -> None:
        """Say something else in the record of our term."""
        assert self._tenure is not None
        term, record = self._tenure[0], replace(self._tenure[1], **changes)
        try:
            if self._records.is_ours():
                self._records.write(record)
                self._tenure = (term, record)
        except OSError as error:  # what it would say more is no reason to end a term
            log.warning("the record could not be told %s: %s", ", ".join(changes), error)

    def _warn_off(self) -> None:
        """Put the record back if it is gone, so that nobody leads on another lock file before our work has ended."""
        assert self._tenure is not None
        with contextlib.suppress(OSError, SeatError, PoolPathError):
            self._directory.prepare()
            if self._records.read() is None:
                self._records.write(self._tenure[1])

    async def release(self, standing: Standing) -> None:
        assert self._tenure is not None
        record = self._tenure[1]
        if record.holder.pid != os.getpid():
            return  # a forked child that runs its parent's clean-up: the words and the flock are the parent's
        try:
            await to_the_end(lambda: self._records.end(record, standing, self._clock.now()))
        finally:
            self._give_up()

    def _give_up(self) -> None:
        self._tenure = None
        try:
            self._lock.release()
        finally:
            self._fifo.let_go()  # after the flock: who hears it finds the seat free

    def observe(self) -> Observation:
        try:
            record = self._sight.look()
            led = leads(record)
        except OSError as error:
            return Observation(None, False, None, f"the leader record cannot be read: {error.strerror}")
        problem = self._standoff or (record.problem if record is not None and led else None)
        return Observation(record, led, self._sight.heartbeat_age() if led else None, problem)

    def workers(self) -> list[Worker]:
        return self._presence.workers()
