"""Background view of the pool, so that reads are served from memory (P8).

A task reads the pool's state every safety poll, and at once on a notification of an election or its end. It also writes
this worker's presence.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import psycopg
from psycopg import errors
from pydantic import TypeAdapter, ValidationError

from election.core.backend import SeatTiming, Worker, live_workers
from election.core.clock import Clock
from election.core.errors import ConfigurationError, LedgerVersionError, SeatError
from election.core.events import named
from election.core.logs import log
from election.core.term import LeaderRecord, Standing
from election.core.threads import run_in_thread
from election.core.watched_task import NOT_WATCHED, WatchedTask

from .address import Address
from .connection import (
    ANSWER_TIMEOUT_S,
    SELECT_SESSION,
    connect_async,
    describe_error,
    execute,
    settings,
    shutdown,
    way_out,
)
from .lockers import MONITOR_LOCK_TIMEOUT_MS, advise
from .preflight import Preflight
from .sleeper import end_sleeping_winner, grace_for

RECORD = TypeAdapter(LeaderRecord)
_WORKER = TypeAdapter(Worker)

MISSED_PRESENCES = 3.0
"""Intervals without presence after which a worker counts as gone."""

VACANT_POLL_S = 0.25
"""Seconds between two reads while nobody leads."""

LATE_S = 0.25
"""Seconds by which a punctual read may be late."""

_READ = (
    "SELECT record, beat, problem, extract(epoch FROM clock_timestamp() - beaten_at)::double precision,"
    " EXISTS (SELECT 1 FROM pg_stat_get_activity(backend) AS it WHERE it.backend_start = leader.backend_start),"
    " ARRAY(SELECT worker FROM workers"
    " WHERE seen_at > clock_timestamp() - make_interval(secs => %s) ORDER BY started_at)"
    " FROM (SELECT 1) AS always LEFT JOIN leader ON TRUE"
)
_RENEW = (
    "WITH gone AS (DELETE FROM workers WHERE seen_at < clock_timestamp() - make_interval(secs => %s) AND worker <> %s)"
    " INSERT INTO workers VALUES (%s, %s, clock_timestamp())"
    " ON CONFLICT (worker) DO UPDATE SET seen_at = excluded.seen_at"
)


class PoolMonitor:
    """State of one pool as read by a background task.

    Args:
        address: Server and schema of the pool.
        preflight: Checks of the server.
        timing: Seconds, as in ``Election``.
        clock: Time of waits.
        own_session: Returns the server process of this worker's session for the lock; 0 if it has none.
    """

    def __init__(
        self,
        address: Address,
        preflight: Preflight,
        *,
        timing: SeatTiming,
        clock: Clock,
        own_session: Callable[[], int],
    ) -> None:
        self._own_session = own_session
        self._address = address
        self._preflight = preflight
        self._timing = timing
        self._presence = max(2.0, timing.heartbeat)
        self._grace = grace_for(timing.heartbeat)
        self._clock = clock
        self._task: WatchedTask | None = None
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._worker: Worker | None = None
        self._renew_at = 0.0
        self._listed: list[Worker] = []
        self._parsed: dict[str, Any] = {}
        self._pulse: tuple[tuple[int, int], float] | None = None
        self._changed = asyncio.Event()
        self._own_updates = 0
        self.refreshed_at = float("-inf")
        """Monotonic time of the server's last answer."""
        self.record: LeaderRecord | None = None
        self.latest = 0
        """Largest term number that was ever read, kept even if the tables are lost."""
        self.seated = False
        """Whether the session of the recorded leader is open."""
        self.trouble: str | None = None
        """Why the server cannot be reached; None if it can."""
        self.session: tuple[int, datetime] | None = None
        """Server process of the monitor's session, and its start; the session ends with this worker."""

    def open(self, worker: Worker) -> None:
        """Take part as ``worker``, and begin to read."""
        self._worker, self._listed, self._renew_at = worker, [worker], 0.0
        self._changed = asyncio.Event()
        self._connection = self.session = None
        self._task = WatchedTask(self._run(), name="election monitor", on_death=self._died)

    async def close(self) -> None:
        """Stop reading, and remove this worker's presence."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        connection = self._connection
        if connection is not None and not connection.closed and self._worker is not None and self.trouble is None:
            with contextlib.suppress(psycopg.Error):
                statement = "DELETE FROM workers WHERE worker = %s"
                await task.stop()
                await execute(connection, statement, (_to_text(self._worker),), within=1.0)
        if connection is not None:
            shutdown(connection)
        await task.stop()
        await self._disconnect()

    def _died(self) -> None:
        self.trouble = f"{self._address.pool} {NOT_WATCHED}"

    async def refresh(self) -> None:
        """Read once, for a process that does not take part; without tables nothing is read. Raises ``SeatError``."""
        try:
            connection = await self._new_session()
            try:
                await self._read(connection)
            finally:
                await connection.close()
        except errors.UndefinedTable:
            return
        except psycopg.Error as error:
            raise SeatError(f"{self._address.pool}: {describe_error(error)}{way_out(error)}") from error

    def set_record(self, record: LeaderRecord) -> None:
        """Use the record that this worker publishes as the leader; the answer of a read in progress is older."""
        self._own_updates += 1
        self.record, self.seated = record, True
        self.latest = max(self.latest, record.term)

    def heartbeat_age(self) -> float | None:
        """Seconds since a change of the heartbeat was last observed; None if no heartbeat was observed."""
        return None if self._pulse is None else self._clock.monotonic() - self._pulse[1]

    def workers(self) -> list[Worker]:
        """Workers that take part, oldest first."""
        own = [self._worker] if self._worker is not None and self._task is not None else []
        return live_workers([*self._listed, *own])

    async def changed(self) -> None:
        """Return at the next change of the record."""
        await self._changed.wait()

    async def execute(self, statement: str, parameters: tuple[Any, ...], *, within: float) -> list[tuple[Any, ...]]:
        """Execute a statement on a new session, if the lock's has ended. Raises ``psycopg.Error``."""
        connection = await self._new_session()
        try:
            return await execute(connection, statement, parameters, within=within)
        finally:
            await connection.close()

    async def _run(self) -> None:
        while True:
            try:
                connection = self._connection = await self._connected()
                is_punctual = False
                while True:
                    await self._read(connection)
                    if is_punctual and not self._led:
                        await end_sleeping_winner(
                            connection, self._address, self._grace, own_session=self._own_session()
                        )
                    interval, asked = self._jittered(), self._clock.monotonic()
                    async for _ in connection.notifies(timeout=interval, stop_after=1):
                        pass
                    # A late observer does not decide: on such a host a winner is slow, too.
                    is_punctual = self._clock.monotonic() - asked < interval + LATE_S
            except (psycopg.Error, OSError, SeatError, ConfigurationError, LedgerVersionError) as error:
                advice = await advise(self._ask, error)
                self.trouble = f"{self._address.pool} cannot be reached: {describe_error(error)}{advice}"
                self._preflight.reset()
            except Exception as error:
                self.trouble = f"{self._address.pool} cannot be read: {describe_error(error)}"
                log.exception("the monitor of the pool failed, and is started again", extra=named("monitor_crashed"))
            await self._disconnect()
            await self._clock.sleep(self._jittered())

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        if not self._preflight.ready:
            await run_in_thread(self._preflight.prepare)
        connection = await self._new_session()
        try:
            [session] = await execute(
                connection, f'LISTEN "{self._address.channel}"; {SELECT_SESSION}', within=ANSWER_TIMEOUT_S
            )
        except BaseException:
            shutdown(connection)
            raise
        self.session = session[0], session[1]
        self._renew_at = 0.0
        return connection

    async def _new_session(self) -> psycopg.AsyncConnection[Any]:
        limit = MONITOR_LOCK_TIMEOUT_MS
        return await connect_async(self._address.url, settings(self._address.schema, lock_timeout=limit))

    async def _ask(self, statement: str) -> list[tuple[Any, ...]]:
        """Execute a statement on the session that has failed, if it works. Raises ``psycopg.Error``."""
        if self._connection is None:
            raise psycopg.OperationalError("the session has ended")
        return await execute(self._connection, statement, within=1.0)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self.session = None
        if connection is not None:
            await connection.close()

    async def _read(self, connection: psycopg.AsyncConnection[Any]) -> None:
        gone_after = MISSED_PRESENCES * self._presence
        now = self._clock.monotonic()
        if self._worker is not None and now >= self._renew_at:
            worker = _to_text(self._worker)
            started = round(self._worker.started_at.timestamp() * 1e6)
            await execute(connection, _RENEW, (10 * gone_after, worker, worker, started), within=ANSWER_TIMEOUT_S)
            self._renew_at = now + self._presence
        own_updates = self._own_updates
        [found] = await execute(connection, _READ, (gone_after,), within=ANSWER_TIMEOUT_S)
        self._update(*found, is_current=own_updates == self._own_updates)

    def _update(
        self,
        record: str | None,
        beat: int | None,
        problem: str | None,
        silent: float | None,
        seated: bool,
        workers: list[str],
        *,
        is_current: bool,
    ) -> None:
        found = None if record is None else self._parse(RECORD, record)
        if found is not None and beat is not None and silent is not None:
            found, pulse = replace(found, problem=problem), (found.term, beat)
            self.latest = max(self.latest, found.term)
            if self._pulse is None:
                self._pulse = pulse, self._clock.monotonic() - max(0.0, silent)
            elif self._pulse[0] != pulse:
                self._pulse = pulse, self._clock.monotonic()
        listed = [self._parse(_WORKER, text) for text in workers]
        self._listed = [worker for worker in listed if worker is not None]
        self._parsed = {text: self._parsed[text] for text in (*workers, record) if text is not None}
        if is_current:
            self.seated = seated
        if is_current and found != self.record:
            if found is not None and (self.record is None or found.holder != self.record.holder):
                found.holder.is_known_dead()  # once observed alive, its later death is certain: ``is_surely_dead``
            self.record = found
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()
        self.refreshed_at, self.trouble = self._clock.monotonic(), None

    def _parse(self, form: TypeAdapter[Any], text: str) -> Any:
        """Value of a text; None if it cannot be parsed. Each is parsed once."""
        if text not in self._parsed:
            try:
                self._parsed[text] = form.validate_json(text)
            except ValidationError:
                self._parsed[text] = None
        return self._parsed[text]

    @property
    def _led(self) -> bool:
        return self.seated and self.record is not None and self.record.standing is Standing.LEADING

    def _jittered(self) -> float:
        poll = self._timing.safety_poll
        return self._timing.jittered(poll if self._led else min(poll, VACANT_POLL_S))


def _to_text(worker: Worker) -> str:
    return _WORKER.dump_json(worker).decode()
