"""The seat of the file engine: a flock, and what makes a flock enough.

Promises P1 on one host, P2, P6, P7 and P8. Winning the flock is not yet leading: the lock file may have been swapped
while its holder leads on, so a winner leads only if the record allows it (``rival.py`` decides).
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import replace

from election.core.clock import Clock
from election.core.errors import PoolInUseError, SeatError
from election.core.process import ProcessIdentity, current_process
from election.core.seat import Observation, Worker
from election.core.term import LeaderRecord, Reason, Standing, Takeover, Term

from .directory import PoolDirectory
from .fifo import AliveFifo
from .lock import Identity, LockFile
from .presence import Presence
from .records import LeaderRecords, Stamp
from .rival import is_flocked, is_rival, seat_id
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
    """

    def __init__(self, directory: PoolDirectory, *, heartbeat: float, safety_poll: float, clock: Clock) -> None:
        self._directory = directory
        self._heartbeat = heartbeat
        self._clock = clock
        self._lock = LockFile(directory.lock)
        self._records = LeaderRecords(directory.record)
        self._number = DurableNumber(directory.term)
        self._fifo = AliveFifo(directory.alive)
        self._watch = Watch(self._fifo, safety_poll=safety_poll)
        self._presence = Presence(directory.workers)
        self._process: ProcessIdentity | None = None
        self._tenure: tuple[Term, LeaderRecord] | None = None
        self._last_seen: LeaderRecord | None = None
        self._pulse: tuple[Stamp, float] | None = None
        self._has_followed = False
        self._standoff: str | None = None
        self._standoff_told: str | None = None

    async def open(self) -> None:
        other = _in_use.get(self._directory.path)
        if other is not None and other._process is not None and other._process.pid == os.getpid():
            raise PoolInUseError(
                f"this process already takes part in the pool {self._directory.path};"
                " share one Election, or give the second one a pool of its own"
            )
        self._directory.check()
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
        try:
            self._directory.prepare()
            if self._process is None:
                self._process = current_process()
                self._presence.enter(self._process, self._clock.now())
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
            previous = self._records.read() or self._last_seen
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
        self._standoff = None
        if previous is None or previous.seat_id == seat_id(held):
            return True
        alive = previous.holder.is_alive()
        if is_rival(
            previous,
            held,
            alive=self._heart_beats() if alive is None else alive,
            flocked=is_flocked(previous.seat_id, held),
        ):
            self._standoff = (
                f"{self._directory.lock} was replaced while pid {previous.holder.pid} leads term {previous.term}"
                " on the former one; nobody else leads before that has ended"
            )
            if self._standoff_told != self._standoff:
                log.error("%s", self._standoff)
            self._standoff_told = self._standoff
            return False
        return True

    async def _begin_term(self, process: ProcessIdentity, held: Identity, before: LeaderRecord | None) -> Term:
        now = self._clock.now()
        number = max(self._number.read(), before.term if before else 0) + 1
        from_pid = before.holder.pid if before else None
        takeover = Takeover(number, from_pid, process.pid, self._reason(before), now)
        record = LeaderRecord(number, process, seat_id(held), now, takeover)
        self._fifo.hold()  # before anybody can read of us, so that nobody misses the hang-up

        def tell() -> None:
            self._number.write(number)
            self._records.write(record)

        try:
            await to_the_end(tell)
        except BaseException:
            if self._records.read() == record:
                self._end_record(record, Standing.RESIGNED)
            raise
        term = Term(number, now, takeover)
        self._tenure = (term, record)
        self._has_followed = True
        return term

    def _reason(self, before: LeaderRecord | None) -> Reason:
        if before is None:
            return Reason.STARTED
        if before.standing is Standing.LEADING:
            return Reason.DIED
        if not self._has_followed:
            return Reason.STARTED  # the seat was free when we came: the pool had been stopped
        return Reason(before.standing.value)

    async def vacancy(self) -> None:
        await self._watch.vacancy(self._look)

    def held(self) -> Term | None:
        return self._tenure[0] if self._tenure is not None and self._lock.is_current() else None

    async def confirm(self, takeover_ms: float) -> None:
        assert self._tenure is not None
        term, record = self._tenure
        record = replace(record, takeover=replace(record.takeover, takeover_ms=round(takeover_ms, 2)))
        self._tenure = (term, record)
        try:
            if self._records.is_ours():
                self._records.write(record)
        except OSError as error:  # the takeover's milliseconds are no reason to end a term
            log.warning("the record could not be told how long the takeover took: %s", error)

    async def beat(self) -> None:
        self._lock.check()
        self._records.beat()
        self._presence.renew()

    async def release(self, standing: Standing) -> None:
        assert self._tenure is not None
        _, record = self._tenure
        await to_the_end(lambda: self._end_record(record, standing))
        self._give_up()

    def _end_record(self, record: LeaderRecord, standing: Standing) -> None:
        """Say that our term is over, but only over our own words: where they are not ours, another may lead by them."""
        over = replace(record, standing=standing, ended_at=self._clock.now())
        try:
            if self._records.is_ours():
                self._records.write(over)
            else:
                self._records.write_if_absent(over)
        except OSError as error:
            log.warning("the record could not be told that term %d ended: %s", record.term, error)

    def _give_up(self) -> None:
        self._tenure = None
        try:
            self._lock.release()
        finally:
            self._fifo.let_go()  # after the flock: who hears it finds the seat free

    def observe(self) -> Observation:
        record, age = self._look(), self._heartbeat_age()
        led = record is not None and record.standing is Standing.LEADING and record.holder.is_alive() is not False
        return Observation(record, led, age if led else None, self._standoff)

    def workers(self) -> list[Worker]:
        return self._presence.workers()

    def _look(self) -> LeaderRecord | None:
        """The record, remembered beyond its file: a lost file is no reason to forget who leads."""
        record, stamp = self._records.look()
        if stamp is not None and (self._pulse is None or self._pulse[0] != stamp):
            self._pulse = (stamp, time.monotonic())
        if record is not None:
            self._last_seen = record
        return record

    def _heartbeat_age(self) -> float | None:
        return None if self._pulse is None else time.monotonic() - self._pulse[1]

    def _heart_beats(self) -> bool:
        """Whether the record's heartbeat was seen to move within the last four heartbeats."""
        self._look()
        age = self._heartbeat_age()
        return age is not None and age < 4 * self._heartbeat
