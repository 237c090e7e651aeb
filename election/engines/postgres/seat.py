"""The seat of the PostgreSQL engine: a session's advisory lock, and what makes it enough.

Promises P2, P6, P7, P8, and P1 for as long as a term may be trusted: the leader believes in its seat until the start
of its last heartbeat plus ``limit`` less a margin; whoever gets the lock after it leads at once if that process is
known to be dead or its term over, and otherwise not before its last heartbeat is ``limit`` old (``office.doubt``).
"""

from __future__ import annotations

import asyncio
import logging
import os

import psycopg

from election.core.clock import Clock, call_later, first
from election.core.errors import ConfigurationError, LedgerVersionError, PoolInUseError, SeatError, SeatLostError
from election.core.events import named
from election.core.process import ProcessIdentity, current_process
from election.core.seat import Observation, Seat, Worker
from election.core.term import LeaderRecord, Standing, Takeover, Term

from . import office
from .address import Address
from .ground import Ground
from .ledger import PostgresLedger
from .lock import SeatLock, lost
from .office import Office
from .session import describe_error, way_out
from .trust import Trust
from .watch import Watch

log = logging.getLogger("election")

LAST_TRY = 1.0
"""Seconds in which the server has to answer a leader that does not believe in its seat any more."""

DYING = 0.05
"""Seconds that a process may take to die after its sockets are closed."""

LINGER = 1.0
"""Seconds for which a worker keeps its place in the queue though nobody waits for the seat."""

RESIGNERS_TURN = 0.25
"""Of a safety poll: how long a worker that gave the seat up leaves it to the others."""

_in_use: dict[str, PostgresSeat] = {}
"""The pools this process takes part in. A reference here also keeps a seat held that may not be released (P5)."""


class PostgresSeat(Seat):
    """Implements ``election.core.seat.Seat`` on a server.

    heartbeat, safety_poll: seconds, as in ``Election``.
    fence_after: seconds after which a leader that hangs ends itself.
    ledger: the leader's: made ready while it is elected, and given up when the server is out of its reach.
    """

    def __init__(
        self,
        address: Address,
        ground: Ground,
        *,
        heartbeat: float,
        safety_poll: float,
        clock: Clock,
        fence_after: float | None = None,
        ledger: PostgresLedger,
    ) -> None:
        self._ledger, self._ground = ledger, ground
        self._address = address
        self._safety_poll = safety_poll
        self._clock = clock
        self._trust = Trust(heartbeat, clock)
        self._lock = SeatLock(address, self._trust.limit)
        self._watch = Watch(address, ground, heartbeat=heartbeat, safety_poll=safety_poll, clock=clock)
        self.look = self._watch.look
        self._office = Office(address, self._lock, self._watch, clock, fence_after=fence_after, heartbeat=heartbeat)
        self._process: ProcessIdentity | None = None
        self._term: Term | None = None
        self._has_followed = self._has_resigned = False
        self._doubt: str | None = None
        self._doubted_until = 0.0
        self._leaving: asyncio.Task[None] | None = None
        self._beside: asyncio.Task[object] | None = None

    @property
    def takeover(self) -> Takeover | None:
        return self._office.record.takeover if self._office.record is not None else None

    async def open(self) -> None:
        other = _in_use.get(self._address.pool)
        if other is not None and other._process and other._process.pid == os.getpid():
            raise PoolInUseError(
                f"this process already takes part in the pool {self._address.pool};"
                " share one Election, or give the second one a pool of its own"
            )
        self._take_part(current_process())
        _in_use[self._address.pool] = self

    def _take_part(self, process: ProcessIdentity) -> None:
        self._process, self._term = process, None
        self._watch.open(Worker(process, self._clock.now()))

    async def close(self) -> None:
        if self._is_forked():
            return
        self._stay()
        await asyncio.gather(*filter(None, [self._beside]), return_exceptions=True)  # or nobody closes what it opens
        if self._term is None:
            await self._lock.close()
            if _in_use.get(self._address.pool) is self:
                del _in_use[self._address.pool]
        await self._watch.close()

    async def campaign(self) -> Term | None:
        self._stay()
        try:
            if self._process is None or self._is_forked():
                self._lock = self._office.lock = SeatLock(self._address, self._trust.limit)  # the parent keeps its own
                self._take_part(current_process())
            if not self._ground.ready:
                await asyncio.to_thread(self._ground.prepare)
            won = await self._lock.take()
            await self._office.tell_end()
            if not won:
                self._has_followed, self._doubt = True, None
                return None
            return await self._take_office()
        except psycopg.Error as error:
            await self._lock.close()
            raise SeatError(f"{self._address.pool}: {describe_error(error)}{way_out(error)}") from error
        except (ConfigurationError, LedgerVersionError) as error:  # at the start it would have been one
            raise SeatError(str(error)) from error

    async def _take_office(self) -> Term | None:
        """From the lock to the term, if nobody may still believe in an earlier one."""
        assert self._process is not None
        self._beside = asyncio.create_task(self._ledger.get_ready())
        before = await self._office.before()
        dead_by = self._clock.monotonic() + DYING
        while (wait := office.doubt(before, self._process, self._trust.limit)) and self._clock.monotonic() < dead_by:
            await self._clock.sleep(DYING / 25)
            before = await self._office.before()
        if wait and before.record is not None:
            self._doubted_until = self._clock.monotonic() + wait
            self._doubt = office.in_doubt(before.record, wait)
            return None
        self._doubt = None
        started = self._clock.monotonic()
        term = await self._office.take(self._process, before, followed=self._has_followed)
        self._term, self._has_followed = term, True
        self._trust.renew(started)
        return term

    async def vacancy(self) -> None:
        self._stay()
        try:
            if self._doubt is not None:
                await first(self._watch.changed(), self._clock.sleep(self._doubted_until - self._clock.monotonic()))
                return
            if self._has_resigned:
                await self._clock.sleep(self._safety_poll * RESIGNERS_TURN)
                self._has_resigned = False
            await self._lock.granted()
        finally:
            self._leaving = call_later(self._clock, LINGER, self._leave)

    def _stay(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()

    def _leave(self) -> None:
        """Nobody waits any more, so whoever is next in the queue should not wait for us."""
        if self._term is None:
            self._beside = asyncio.create_task(self._lock.close())

    def held(self) -> Term | None:
        if self._term is None or self._is_forked() or not self._lock.held:
            return None
        return self._term if self._trust.left() else None

    async def confirm(self, takeover_ms: float) -> None:
        try:
            await self._office.confirm(takeover_ms)
        except psycopg.Error as error:  # no reason to end a term
            log.warning("the takeover was not recorded: %s", describe_error(error), extra=named("record_not_updated"))

    async def beat(self, problem: str | None = None) -> None:
        record, started = self._office.record, self._clock.monotonic()
        assert record is not None
        if not self._lock.held:
            await self._beat_on(record)
        watch = self._watch.session or (None, None)
        try:
            found = await self._lock.ask(office.BEAT, (*watch, record.term), within=max(self._trust.left(), LAST_TRY))
            if found and record.problem != problem:
                await self._office.tell_problem(problem)
        except psycopg.Error as error:
            if not self._lock.held:
                if not self._trust.left():  # a claim that is on its way would keep the term from its end
                    self._ledger.give_up()
                raise SeatLostError(lost(error)) from error
            self._trust.renew(started)  # an answer all the same: the session lives, and the lock with it
            raise SeatError(f"{self._address.pool}: {describe_error(error)}{way_out(error)}") from error
        if not found:
            raise SeatLostError(f"{self._address.pool}: another worker has begun a term after {record.term}")
        self._trust.renew(started)  # though it had run out: the lock is a session's, and this is the same one

    async def _beat_on(self, record: LeaderRecord) -> None:
        """The seat is lost, but its work may not have ended yet: show life, so that the others wait for that."""
        why = "its session has ended"
        try:
            await self._watch.ask(office.BEAT_ON, (record.term,), within=1.0)
        except psycopg.Error as error:
            why = f"{why}; {describe_error(error)}"
        raise SeatLostError(f"{self._address.pool}: the seat is lost: {why}")

    async def alarm(self) -> None:
        """See ``Engine.alarm``."""
        await self._lock.ended.noticed()

    async def wait_for_changes(self) -> None:
        """See ``Engine.wait_for_changes``."""
        await self._lock.wait_for_changes.noticed()

    async def release(self, standing: Standing) -> None:
        if self._is_forked():
            return  # a forked child that runs its parent's clean-up: the words and the lock are the parent's
        self._term, self._has_resigned = None, standing is Standing.RESIGNED
        ended = self._office.end(standing)
        try:
            if not self._lock.held:
                await self._lock.close()
            await self._office.tell_end()
            if self._lock.held:
                await self._lock.give_up()
        except psycopg.Error as error:
            log.warning(
                "end of term %d not recorded: %s", ended, describe_error(error), extra=named("term_end_unrecorded")
            )
            await self._lock.close()

    def observe(self) -> Observation:
        record, watch = self._watch.record, self._watch
        seen = watch.seated and self._clock.monotonic() - watch.looked_at < self._trust.limit
        led = seen and record is not None and record.standing is Standing.LEADING and not record.holder.is_known_dead()
        problem = self._doubt or watch.trouble or (record.problem if record is not None and led else None)
        return Observation(record, led, watch.heartbeat_age() if led else None, problem)

    def workers(self) -> list[Worker]:
        return self._watch.workers()

    def _is_forked(self) -> bool:
        return self._process is not None and self._process.pid != os.getpid()
