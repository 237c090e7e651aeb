"""What one worker knows of its pool, kept fresh by a task of its own: everybody else is answered from memory (P8).

It looks every safety poll, and at once when it is notified of an election or its end. On its way it says that this
worker takes part.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import replace
from datetime import datetime
from typing import Any

import psycopg
from psycopg import errors
from pydantic import TypeAdapter, ValidationError

from election.core.clock import Clock
from election.core.errors import ConfigurationError, LedgerVersionError, SeatError
from election.core.seat import Worker
from election.core.term import LeaderRecord

from .address import Address
from .ground import Ground
from .session import ITSELF, ask, connect_async, describe_error, hang_up, settings, way_out

RECORD = TypeAdapter(LeaderRecord)
_WORKER = TypeAdapter(Worker)

MISSED = 3.0
"""Presences that may be missed until a worker is taken for gone."""

ANSWER_WITHIN = 5.0
"""Seconds in which the server has to answer."""

_LOOK = (
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


class Watch:
    """Looks at one pool. heartbeat, safety_poll: seconds, as in ``Election``."""

    def __init__(self, address: Address, ground: Ground, *, heartbeat: float, safety_poll: float, clock: Clock) -> None:
        self._address = address
        self._ground = ground
        self._poll = safety_poll
        self._presence = max(2.0, heartbeat)
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._worker: Worker | None = None
        self._renew_at = 0.0
        self._listed: list[Worker] = []
        self._parsed: dict[str, Any] = {}
        self._pulse: tuple[tuple[int, int], float] | None = None
        self._changed = asyncio.Event()
        self.looked_at = float("-inf")
        """When the server answered last, by the monotonic clock."""
        self.record: LeaderRecord | None = None
        self.latest = 0
        """The largest number of a term that was ever seen: remembered though the tables be lost."""
        self.seated = False
        """Whether the session that the recorded leader leads by is open."""
        self.trouble: str | None = None
        """Why the server cannot be looked at, in words."""
        self.session: tuple[int, datetime] | None = None
        """The server's process for this watch, and since when; gone when this worker is."""

    def open(self, worker: Worker) -> None:
        """Begin to look."""
        self._worker, self._listed, self._renew_at = worker, [worker], 0.0
        self._changed = asyncio.Event()
        self._connection = self.session = None
        self._task = asyncio.create_task(self._live(), name="election watch")

    async def close(self) -> None:
        """Stop looking, and say that this worker is gone."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        connection = self._connection
        if connection is not None and not connection.closed and self._worker is not None and self.trouble is None:
            with contextlib.suppress(psycopg.Error):
                farewell = "DELETE FROM workers WHERE worker = %s"
                await asyncio.gather(task, return_exceptions=True)
                await ask(connection, farewell, (_text(self._worker),), within=1.0)
        if connection is not None:
            hang_up(connection)
        await asyncio.gather(task, return_exceptions=True)
        await self._disconnect()

    async def look(self) -> None:
        """Look once, for who does not take part; where there is no pool yet, there is nothing. Raises ``SeatError``."""
        try:
            connection = await connect_async(self._address.url, settings(self._address.schema))
            try:
                await self._look(connection)
            finally:
                await connection.close()
        except errors.UndefinedTable:
            return
        except psycopg.Error as error:
            raise SeatError(f"{self._address.pool}: {describe_error(error)}{way_out(error)}") from error

    def saw(self, record: LeaderRecord) -> None:
        """What this worker has just said as the leader."""
        self.record, self.seated = record, True
        self.latest = max(self.latest, record.term)

    def heartbeat_age(self) -> float | None:
        """Seconds for which the heartbeat was not seen to move; None if none was ever seen."""
        return None if self._pulse is None else self._clock.monotonic() - self._pulse[1]

    def workers(self) -> list[Worker]:
        """The workers that take part, oldest first."""
        found = {worker.process: worker for worker in self._listed if not worker.process.is_known_dead()}
        if self._worker is not None and self._task is not None:
            found[self._worker.process] = self._worker
        return sorted(found.values(), key=lambda worker: (worker.started_at, worker.process.pid))

    async def changed(self) -> None:
        """Return when the record has changed from what it is now."""
        await self._changed.wait()

    async def ask(self, statement: str, parameters: tuple[Any, ...], *, within: float) -> list[tuple[Any, ...]]:
        """A statement on a session of its own, for what cannot be said on the lock's. Raises ``psycopg.Error``."""
        connection = await connect_async(self._address.url, settings(self._address.schema))
        try:
            return await ask(connection, statement, parameters, within=within)
        finally:
            await connection.close()

    async def _live(self) -> None:
        while True:
            try:
                connection = self._connection = await self._connected()
                while True:
                    await self._look(connection)
                    async for _ in connection.notifies(timeout=self._jittered(), stop_after=1):
                        pass
            except (psycopg.Error, OSError, SeatError, ConfigurationError, LedgerVersionError) as error:
                self.trouble = f"{self._address.pool} cannot be reached: {describe_error(error)}"
                self._ground.forget()
            await self._disconnect()
            await self._clock.sleep(self._jittered())

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        if not self._ground.ready:
            await asyncio.to_thread(self._ground.prepare)
        connection = await connect_async(self._address.url, settings(self._address.schema))
        try:
            [itself] = await ask(connection, f'LISTEN "{self._address.channel}"; {ITSELF}', within=ANSWER_WITHIN)
        except BaseException:
            hang_up(connection)
            raise
        self.session = itself[0], itself[1]
        self._renew_at = 0.0
        return connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self.session = None
        if connection is not None:
            await connection.close()

    async def _look(self, connection: psycopg.AsyncConnection[Any]) -> None:
        gone_after = MISSED * self._presence
        now = self._clock.monotonic()
        if self._worker is not None and now >= self._renew_at:
            worker = _text(self._worker)
            started = round(self._worker.started_at.timestamp() * 1e6)
            await ask(connection, _RENEW, (10 * gone_after, worker, worker, started), within=ANSWER_WITHIN)
            self._renew_at = now + self._presence
        [found] = await ask(connection, _LOOK, (gone_after,), within=ANSWER_WITHIN)
        self._see(*found)

    def _see(
        self,
        record: str | None,
        beat: int | None,
        problem: str | None,
        silent: float | None,
        seated: bool,
        workers: list[str],
    ) -> None:
        self.seated = seated
        found = None if record is None else self._understood(RECORD, record)
        if found is not None and beat is not None and silent is not None:
            found, pulse = replace(found, problem=problem), (found.term, beat)
            self.latest = max(self.latest, found.term)
            if self._pulse is None:
                self._pulse = pulse, self._clock.monotonic() - max(0.0, silent)
            elif self._pulse[0] != pulse:
                self._pulse = pulse, self._clock.monotonic()
        listed = [self._understood(_WORKER, text) for text in workers]
        self._listed = [worker for worker in listed if worker is not None]
        self._parsed = {text: self._parsed[text] for text in (*workers, record) if text is not None}
        if found != self.record:
            self.record = found
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()
        self.looked_at, self.trouble = self._clock.monotonic(), None

    def _understood(self, form: TypeAdapter[Any], text: str) -> Any:
        """What a text says; None for one that nobody can understand. Each is read once."""
        if text not in self._parsed:
            try:
                self._parsed[text] = form.validate_json(text)
            except ValidationError:
                self._parsed[text] = None
        return self._parsed[text]

    def _jittered(self) -> float:
        return self._poll * random.uniform(0.8, 1.2)


def _text(worker: Worker) -> str:
    return _WORKER.dump_json(worker).decode()
