"""The seat of the file engine: a flock, and what makes a flock enough.

Promises P1 on one host, P2, P6, P7 and P8. Winning the flock is not yet leading: the lock file may have been swapped
while its holder leads on, so a winner leads only if the record allows it (``rival.py`` decides).
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace

from election.core.backend import TermHistory
from election.core.clock import Clock
from election.core.errors import PoolInUseError, SeatError, SeatLostError
from election.core.events import named
from election.core.process import ProcessIdentity, current_process
from election.core.seat import Observation, Seat, Worker
from election.core.term import LeaderRecord, Standing, Takeover, Term

from .directory import PoolDirectory
from .fifo import AliveFifo
from .lock import Identity, LockFile
from .office import Office
from .presence import Presence
from .records import LeaderRecords
from .refusal import PATIENCE, Refusals
from .rival import is_flocked, is_rival, seat_id, standoff
from .sight import Sight, leads
from .watch import Watch

log = logging.getLogger("election")

BEGINNING = "another worker is about to begin or end a term, and nobody else does before"

SETTLE_HEARTBEATS = 2.0
"""How long a winner waits that finds no record, so that a leader whose directory was taken away has noticed."""

_in_use: dict[str, FileSeat] = {}
"""The pools this process takes part in. A reference here also keeps a seat held that may not be released (P5)."""


class FileSeat(Seat):
    """Implements ``election.core.seat.Seat`` on a directory.

    directory: where the pool lives.
    heartbeat, safety_poll: seconds, as in ``Election``.
    memory: the ledger, which is asked for earlier terms.
    fence_after: seconds after which an orphan that keeps the lock is ended; None to leave it alone.
    """

    def __init__(
        self,
        directory: PoolDirectory,
        *,
        heartbeat: float,
        safety_poll: float,
        clock: Clock,
        memory: TermHistory | None = None,
        fence_after: float | None = None,
    ) -> None:
        self._directory = directory
        self._heartbeat = heartbeat
        self._safety_poll = safety_poll
        self._clock = clock
        self._lock = LockFile(directory.lock)
        self._records = LeaderRecords(directory.record)
        self._office = Office(directory, self._lock, self._records, clock, memory)
        self._fifo = AliveFifo(directory.alive)
        self._watch = Watch(self._fifo, safety_poll=safety_poll, clock=clock)
        self._presence = Presence(directory.workers, clock)
        self._process: ProcessIdentity | None = None
        self._sight = Sight(self._records, clock)
        self._has_followed = False
        self._standoff: str | None = None
        self._standoff_told: str | None = None
        patience = PATIENCE + SETTLE_HEARTBEATS * heartbeat
        self._refusals = Refusals(
            directory.lock, patience=patience, poll=safety_poll, fence_after=fence_after, clock=clock
        )

    @property
    def takeover(self) -> Takeover | None:
        return self._office.record.takeover if self._office.record is not None else None

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
            log.warning("this worker cannot say that it takes part: %s", error, extra=named("presence_failed"))
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
                await self._refusals.one_more(self._sight.look(), self._presence.workers)
                return None
            self._refusals.over()
            return await self._take_office(self._process, held)
        except OSError as error:
            raise SeatError(f"{error.strerror}: {error.filename or self._directory.path}") from error

    async def _take_office(self, process: ProcessIdentity, held: Identity) -> Term | None:
        """From the flock to the term. Whatever happens here, the flock is either a term's or free again."""
        term = None
        try:
            latest, found = self._office.number.read(), self._records.read()
            if found is None:
                await self._clock.sleep(SETTLE_HEARTBEATS * self._heartbeat)
                found = self._records.read()
            previous = found or self._sight.last_seen
            if self._may_lead(previous, held):
                with self._office.number.alone() as alone:  # and by now, is everything as it was when that was judged?
                    self._standoff = None if alone else BEGINNING
                    unchanged = alone and (self._office.number.read(), self._records.read()) == (latest, found)
                    if unchanged and self._lock.is_current():
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
                log.error("%s", self._standoff, extra=named("lock_file_replaced"))
            self._standoff_told = self._standoff
            return False
        return True

    async def _begin_term(self, process: ProcessIdentity, held: Identity, before: LeaderRecord | None) -> Term | None:
        self._fifo.hold()  # before anybody can read of us, so that nobody misses the hang-up
        term = await self._office.take(process, held, before, followed=self._has_followed)
        self._sight.last_seen = self._office.last_told  # or two, each remembering the other, could wait for ever
        self._has_followed = self._has_followed or term is not None
        return term

    async def vacancy(self) -> None:
        try:
            await self._watch.vacancy(self._sight.look)
        except OSError:  # no descriptors left, say; what it is, the next campaign tells
            await self._clock.sleep(self._safety_poll)

    def held(self) -> Term | None:
        return self._office.term if self._lock.is_current() else None

    async def confirm(self, takeover_ms: float) -> None:
        assert self._office.record is not None
        self._office.say(takeover=replace(self._office.record.takeover, takeover_ms=round(takeover_ms, 2)))

    async def beat(self, problem: str | None = None) -> None:
        try:
            self._lock.check()
            self._records.beat()
        except SeatLostError:
            self._office.warn_off()
            raise
        if self._office.record is not None and self._office.record.problem != problem:
            self._office.say(problem=problem)
        self._presence.renew()

    async def release(self, standing: Standing) -> None:
        assert self._office.record is not None
        if self._office.record.holder.pid != os.getpid():
            return  # a forked child that runs its parent's clean-up: the words and the flock are the parent's
        try:
            await self._office.leave(standing)
        finally:
            self._give_up()

    def _give_up(self) -> None:
        self._office.close()
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
        problem = self._standoff or self._refusals.problem or (record.problem if record is not None and led else None)
        return Observation(record, led, self._sight.heartbeat_age() if led else None, problem)

    def workers(self) -> list[Worker]:
        return self._presence.workers()
