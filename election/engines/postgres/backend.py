"""Seat backend of the PostgreSQL engine: a session's advisory lock, and the checks that make it sufficient.

Promises P2, P6, P7, P8, and P1 for as long as a term may be trusted: the leader trusts its seat until the start of its
last heartbeat plus a limit less a margin. The next holder of the lock leads at once if that process is known to be dead
or its term is over, and otherwise only when the last heartbeat is older than the limit (``trust.py`` decides).

The table ``leader`` has one row: record, term number, heartbeat, and the sessions of the leader. It is written by the
holder of the lock only.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import psycopg
from pydantic import ValidationError

from election.core.backend import Grant, Refusal, SeatTiming, Snapshot, Worker
from election.core.clock import Clock, Timer, call_later, first
from election.core.errors import ConfigurationError, LedgerVersionError, SeatError, SeatLostError
from election.core.events import named
from election.core.logs import log
from election.core.process import ProcessIdentity
from election.core.term import LeaderRecord, Standing
from election.core.threads import run_in_thread

from .address import Address
from .advisory_lock import AdvisoryLock
from .connection import describe_error
from .ledger import PostgresLedger
from .lockers import advise
from .monitor import RECORD, PoolMonitor
from .preflight import Preflight
from .trust import StateBefore, Trust, died, remaining_trust, was_fenced_by_switch

LAST_TRY_S = 1.0
"""Time in which the server has to answer a leader that no longer trusts its seat."""

DYING_S = 0.05
"""Time that a process may take to die after its sockets are closed."""

LINGER_S = 1.0
"""Time for which a worker keeps its place in the queue without waiting for the seat."""

_READ_STATE = (
    "SELECT record, term, greatest(0, extract(epoch FROM clock_timestamp() - beaten_at))::double precision,"
    " %s < beaten_at,"
    " EXISTS (SELECT 1 FROM pg_stat_get_activity(watch) AS it WHERE it.backend_start = watch_start),"
    " EXISTS (SELECT 1 FROM fences WHERE fences.term = leader.term),"
    " coalesce((SELECT max(term) FROM terms), 0)"
    " FROM (SELECT 1) AS always LEFT JOIN leader ON TRUE"
)
_BEGIN = (  # on the server's disk before any session can read it (P2), despite the session's settings
    "WITH durable AS MATERIALIZED (SELECT set_config('synchronous_commit', 'on', true))"
    " INSERT INTO leader (term, record, beaten_at, backend, backend_start, watch, watch_start)"
    " SELECT %s, %s, clock_timestamp(), %s, %s, %s, %s FROM durable"
    " ON CONFLICT (only_row) DO UPDATE SET (term, record, beat, beaten_at, problem, backend, backend_start, watch,"
    " watch_start) = (excluded.term, excluded.record, leader.beat + 1, excluded.beaten_at, NULL, excluded.backend,"
    " excluded.backend_start, excluded.watch, excluded.watch_start) WHERE leader.term < excluded.term"
    " RETURNING pg_notify(%s, '')"
)
_BEAT = (
    "UPDATE leader SET beat = beat + 1, beaten_at = clock_timestamp(), watch = %s, watch_start = %s"
    " WHERE term = %s AND backend = pg_backend_pid() RETURNING 1"
)
_BEAT_WITHOUT_SEAT = "UPDATE leader SET beat = beat + 1, beaten_at = clock_timestamp() WHERE term = %s"
_WRITE = "UPDATE leader SET record = %s, problem = %s WHERE term = %s RETURNING pg_notify(%s, '')"


class PostgresBackend:
    """Implements ``election.core.backend.SeatBackend`` on a server.

    Args:
        address: Server and schema of the pool.
        preflight: Checks of the server.
        ledger: The leader's ledger: connected while a term begins, and given up when the server is out of reach.
        timing: Seconds, as in ``Election``.
        clock: Time of waits and trust.
    """

    def __init__(
        self, address: Address, preflight: Preflight, ledger: PostgresLedger, *, timing: SeatTiming, clock: Clock
    ) -> None:
        self.pool = address.pool
        self._address, self._preflight, self._ledger = address, preflight, ledger
        self._timing = timing
        self._clock = clock
        self._trust = Trust(timing.heartbeat, clock)
        self._lock = AdvisoryLock(address, self._trust.limit, timing)
        self._monitor = PoolMonitor(
            address, preflight, timing=timing, clock=clock, own_session=lambda: self._lock.session[0]
        )
        self._process: ProcessIdentity | None = None
        self._published: LeaderRecord | None = None
        self._unpublished_end: LeaderRecord | None = None
        self._doubt: str | None = None
        self._doubted_until = 0.0
        self._leaving: Timer | None = None
        self._background: asyncio.Task[object] | None = None

    async def open(self, worker: Worker) -> None:
        self._lock = AdvisoryLock(self._address, self._trust.limit, self._timing)  # not that of a parent that forked us
        self._process, self._published, self._unpublished_end = worker.process, None, None
        self._leaving = self._background = None
        self._monitor.open(worker)

    async def close(self) -> None:
        self._stay_in_queue()
        await asyncio.gather(*filter(None, [self._background]), return_exceptions=True)  # it may open connections
        if self._published is None:
            await self._lock.close()
        await self._monitor.close()

    async def refresh(self) -> None:
        """See ``Engine.look``."""
        await self._monitor.refresh()

    async def doubt(self) -> None:
        """Return when the session may be lost."""
        await self._lock.ended.wait_and_clear()

    async def wait_for_changes(self) -> None:
        """See ``Engine.wait_for_changes``."""
        await self._lock.ledger_changed.wait_and_clear()

    # --- the beginning of a term ------------------------------------------------------------------------------------

    async def attend(self) -> None:
        """Do nothing: the monitor writes this worker's presence."""

    async def report(self, problem: str | None) -> None:
        """Do nothing: who looks from outside meets the same server."""

    async def try_acquire(self) -> Grant | Refusal:
        self._stay_in_queue()
        try:
            if not self._preflight.ready:
                await run_in_thread(self._preflight.prepare)
            acquired = await self._lock.try_acquire()
            await self._publish_end()
            if not acquired:
                self._doubt = None
                return Refusal.TAKEN
            return await self._judge()
        except psycopg.Error as error:
            seat_error = await self._seat_error(error)
            await self._lock.close()
            raise seat_error from error
        except (ConfigurationError, LedgerVersionError) as error:  # fatal at the start only
            raise SeatError(str(error)) from error

    async def _judge(self) -> Grant | Refusal:
        """Decide whether the lock permits a term: only if no other process may still trust an earlier one."""
        assert self._process is not None
        self._background = asyncio.create_task(self._ledger.get_ready())
        before = await self._state_before()
        dead_by = self._clock.monotonic() + DYING_S
        while (wait := remaining_trust(before, self._process, self._trust.limit)) and self._clock.monotonic() < dead_by:
            await self._clock.sleep(DYING_S / 25)
            before = await self._state_before()
        if wait and before.record is not None:
            self._doubted_until = self._clock.monotonic() + wait
            self._doubt = _describe_doubt(before.record, wait)
            return Refusal.NOT_YET
        self._doubt = None
        return Grant(
            f"{self.pool} {self._lock.session[0]}",
            before.record,
            max(before.latest, self._monitor.latest),
            fenced=before.fenced or was_fenced_by_switch(before, self._timing.fence_after, self._timing.heartbeat),
            died=before.record is not None and died(before),
            silent_s=before.silent,
        )

    async def _state_before(self) -> StateBefore:
        [(text, number, silent, witnessed, watched, fenced, last)] = await self._lock.execute(
            _READ_STATE, (self._lock.session[1],)
        )
        if text is None:
            return StateBefore(None, last)
        try:
            record = RECORD.validate_json(text)
        except ValidationError:  # written by another program
            return StateBefore(None, max(number, last))
        return StateBefore(record, max(number, last), fenced, silent, witnessed, watched)

    async def reserve(self, number: int) -> None:
        """``publish`` writes number and record in one transaction."""

    async def publish(self, record: LeaderRecord) -> bool:
        started = self._clock.monotonic()
        monitor = self._monitor.session or (None, None)
        parameters = (record.term, _to_text(record), *self._lock.session, *monitor, self._address.channel)
        try:
            begun = await self._lock.execute(_BEGIN, parameters)
        except psycopg.Error as error:
            seat_error = await self._seat_error(error)
            await self._lock.close()
            raise seat_error from error
        if not begun:
            raise SeatError(f"{self.pool}: another worker has begun term {record.term} or a later one")
        self._published = record
        self._monitor.set_record(record)
        self._trust.renew(started)
        return True

    # --- the term ---------------------------------------------------------------------------------------------------

    def holds(self) -> bool:
        return self._lock.held and self._trust.left() > 0

    async def renew(self, record: LeaderRecord) -> None:
        started = self._clock.monotonic()
        if not self._lock.held:
            await self._beat_without_seat(record)
        session = self._monitor.session or (None, None)
        limit = max(self._trust.left(), LAST_TRY_S)
        try:
            found = await self._lock.execute(_BEAT, (*session, record.term), within=limit)
            if found and record != self._published:
                await self._lock.execute(_WRITE, self._to_row(record))
                self._published = record
                self._monitor.set_record(record)
            await self._lock.listen()
        except psycopg.Error as error:
            if not self._lock.held:
                if not self._trust.left():  # a claim in progress would delay the end of the term
                    self._ledger.give_up()
                raise SeatLostError(f"the session that holds the seat has ended: {describe_error(error)}") from error
            self._trust.renew(started)  # an error is an answer, too: session and lock are alive
            raise await self._seat_error(error) from error
        if not found:
            raise SeatLostError(f"{self.pool}: another worker has begun a term after {record.term}")
        self._trust.renew(started)  # even if it had run out: the same session still holds the lock

    async def _beat_without_seat(self, record: LeaderRecord) -> None:
        """Write a heartbeat without the seat, so that the others wait for the end of the work; always raises."""
        why = "its session has ended"
        try:
            await self._monitor.execute(_BEAT_WITHOUT_SEAT, (record.term,), within=1.0)
        except psycopg.Error as error:
            why = f"{why}; {describe_error(error)}"
        raise SeatLostError(f"{self.pool}: the seat is lost: {why}")

    # --- the end of a term ------------------------------------------------------------------------------------------

    async def release(self, record: LeaderRecord | None) -> None:
        if record is not None:
            self._published, self._unpublished_end = None, record
            self._monitor.set_record(record)
        try:
            if record is not None and not self._lock.held:
                await self._lock.close()
            await self._publish_end()
            if self._lock.held:
                await self._lock.release()
        except psycopg.Error as error:
            if record is not None:
                text = "the end of term %d could not be recorded: %s"
                log.warning(text, record.term, describe_error(error), extra=named("term_end_unrecorded"))
            await self._lock.close()

    async def _publish_end(self) -> None:
        """Publish the end of our last term, unless that is done or a later one has begun.

        Raises:
            psycopg.Error: The next campaign publishes it.
        """
        if self._unpublished_end is None:
            return
        row = self._to_row(self._unpublished_end)
        if self._lock.held:
            written = await self._lock.execute(_WRITE, row)
        else:
            written = await self._monitor.execute(_WRITE, row, within=1.0)
        if written:
            self._monitor.set_record(self._unpublished_end)
        self._unpublished_end = None

    # --- following --------------------------------------------------------------------------------------------------

    async def wait_for_vacancy(self) -> None:
        self._stay_in_queue()
        try:
            if self._doubt is not None:
                await self._sit_out_the_doubt()
            else:
                await self._lock.wait_for_grant()
        finally:
            self._leaving = call_later(self._clock, LINGER_S, self._leave_queue)

    async def _sit_out_the_doubt(self) -> None:
        """Return when the record changes or the doubt is over, as soon as the server has ended all sessions of a dead
        leader; meanwhile, statements show that this winner is awake.
        """
        assert self._process is not None
        before = self._monitor.record
        while (wait := self._doubted_until - self._clock.monotonic()) > 0 and self._monitor.record is before:
            await first(self._monitor.changed(), self._clock.sleep(min(wait, self._timing.heartbeat)))
            try:
                if not remaining_trust(await self._state_before(), self._process, self._trust.limit):
                    return
            except psycopg.Error:
                return  # the next campaign detects it

    def _stay_in_queue(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()

    def _leave_queue(self) -> None:
        """Close the session, so that a worker that does not wait blocks no other in the server's queue."""
        if self._published is None:
            self._background = asyncio.create_task(self._lock.close())

    async def snapshot(self, max_age_s: float = 0.0) -> Snapshot:
        monitor, record = self._monitor, self._monitor.record
        is_fresh = monitor.seated and self._clock.monotonic() - monitor.refreshed_at < self._trust.limit
        led = is_fresh and record is not None and record.standing is Standing.LEADING
        led = led and record is not None and not record.holder.is_surely_dead()
        return Snapshot(record, led, monitor.heartbeat_age(), self._doubt or monitor.trouble)

    async def workers(self) -> list[Worker]:
        return self._monitor.workers()

    def _to_row(self, record: LeaderRecord) -> tuple[str, str | None, int, str]:
        return _to_text(record), record.problem, record.term, self._address.channel

    async def _seat_error(self, error: psycopg.Error) -> SeatError:
        return SeatError(f"{self.pool}: {describe_error(error)}{await advise(self._lock.execute, error)}")


def _describe_doubt(record: LeaderRecord, wait: float) -> str:
    """Problem text: why no worker leads for ``wait`` seconds at most."""
    return (
        f"the server has ended the session of pid {record.holder.pid} on {record.holder.host}, which may still work in"
        f" term {record.term}; no other worker can lead before that process reports the end of its term, or"
        f" {wait:.1f} s have passed"
    )


def _to_text(record: LeaderRecord) -> str:
    return RECORD.dump_json(replace(record, problem=None)).decode()
