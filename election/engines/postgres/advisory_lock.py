"""Session that holds the pool's advisory lock, or waits for it in the server's queue.

The server wakes exactly one of the waiting sessions, at the moment at which the lock is free (P6, P7). The lock belongs
to the session and ends with it; a session is tested by a statement.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import psycopg

from election.core.backend import SeatTiming
from election.core.errors import SeatError
from election.core.term import LeaderRecord

from .address import Address
from .connection import (
    ANSWER_TIMEOUT_S,
    SELECT_SESSION,
    WatchedSocket,
    connect_async,
    consume_exception,
    describe_error,
    execute,
    settings,
    shutdown,
    way_out,
)
from .lockers import LOCK_TIMEOUT_MS

WAIT_S = 30.0
"""Maximum time that one statement waits for the lock, see ``schema.wait_for_seat``."""

_TERMINATE = (
    "SELECT pg_terminate_backend(it.pid) FROM leader, pg_stat_get_activity(backend) AS it"
    " WHERE it.backend_start = leader.backend_start AND term = %s"
    " AND it.usesysid = (SELECT oid FROM pg_roles WHERE rolname = current_user)"
)


class Signal(asyncio.Event):
    """Event that is cleared by its waiter."""

    async def wait_and_clear(self) -> None:
        """Wait for the event, and clear it."""
        await self.wait()
        self.clear()


class AdvisoryLock:
    """One session at a time, opened when it is needed.

    Args:
        address: Server and schema of the pool.
        limit: Minimum seconds for which the server keeps the lock of a silent client.
        timing: Jitter of waits in the server's queue.
    """

    def __init__(self, address: Address, limit: float, timing: SeatTiming) -> None:
        self._address = address
        self._timing = timing
        self._key = address.key("seat")
        keep = math.ceil(limit)
        self._settings = settings(
            address.schema,
            synchronous_commit="off",  # a heartbeat need not outlive the server
            lock_timeout=LOCK_TIMEOUT_MS,  # not of the advisory lock, see ``schema.wait_for_seat``
            tcp_keepalives_idle=keep,
            tcp_keepalives_interval=1,
            tcp_keepalives_count=3,
            tcp_user_timeout=(keep + 3) * 1000,
        )
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._waiter: asyncio.Task[None] | None = None
        self._socket: WatchedSocket | None = None
        self._test: asyncio.Task[None] | None = None
        self._executing = 0
        self._listening = False
        self.session: tuple[int, datetime | None] = 0, None
        """Server process of the session, and its start."""
        self.held = False
        """Whether the server granted the lock, and the session was not seen to end since."""
        self.ended = Signal()
        """Set when the session that held the lock is seen to end."""
        self.ledger_changed = Signal()
        """Set when other sessions may have written to the ledger, since ``listen``."""

    async def try_acquire(self) -> bool:
        """Try once, without waiting for the holder. Raises ``psycopg.Error``."""
        if self._waiter is not None:
            if not self._waiter.done():
                return False
            waiter, self._waiter = self._waiter, None
            waiter.result()
        if not self.held:
            await self._connect()
            [(self.held,)] = await self.execute("SELECT pg_try_advisory_lock(%s)", (self._key,))
        return self.held

    async def wait_for_grant(self) -> None:
        """Return when the lock is granted or the session is lost. The wait goes on in the server when cancelled."""
        if self.held:
            return
        if self._waiter is None:
            self._waiter = asyncio.create_task(self._wait(), name="election seat")
            self._waiter.add_done_callback(consume_exception)
        await asyncio.wait([self._waiter])

    async def execute(
        self, statement: str, parameters: Sequence[Any] = (), *, within: float = ANSWER_TIMEOUT_S
    ) -> list[tuple[Any, ...]]:
        """Execute a statement on the lock's own session: an answer proves that it lives. Raises ``psycopg.Error``."""
        if self._connection is None:
            raise psycopg.OperationalError("the session has ended")
        self._executing += 1
        try:
            return await execute(self._connection, statement, parameters, within=within)
        except psycopg.Error:
            if self.held and self._connection.closed:
                self.held = False
                self.ended.set()
            raise
        finally:
            self._executing -= 1

    async def listen(self) -> None:
        """Be notified of changes of the ledger, until the lock is released. Raises ``psycopg.Error``."""
        if not self._listening:
            await self.execute(f'LISTEN "{self._address.ledger_channel}"')
            self._listening = True
            self.ledger_changed.set()  # by earlier writes

    async def release(self) -> None:
        """Free the lock, and keep the session. Raises ``psycopg.Error``; then the lock has ended with the session."""
        self.held = self._listening = False
        try:
            # All, because a lock that was granted twice is held twice.
            await self.execute("UNLISTEN *; SELECT pg_advisory_unlock_all()")
        except psycopg.Error:
            await self.close()
            raise

    async def close(self) -> None:
        """End the session, and the wait."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.cancel()
        await self._disconnect()

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self.held = self._listening = False
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if connection is not None:
            shutdown(connection)
            with contextlib.suppress(psycopg.Error):
                async with connection.lock:  # a statement on this connection has failed already
                    pass
            await connection.close()

    async def _connect(self) -> None:
        if self._connection is not None and not self._connection.closed:
            return
        await self._disconnect()
        self._connection = await connect_async(self._address.url, self._settings)
        self._connection.add_notify_handler(lambda _: self.ledger_changed.set())
        [(pid, since)] = await self.execute(SELECT_SESSION)
        self.session = pid, since
        self._socket = WatchedSocket(self._connection, self._on_readable)

    async def _wait(self) -> None:
        await self._connect()
        while not self.held:
            limit = self._timing.jittered(WAIT_S)
            statement = "SELECT wait_for_seat(%s, %s)"
            parameters = (self._key, round(limit * 1000))
            [(self.held,)] = await self.execute(statement, parameters, within=limit + ANSWER_TIMEOUT_S)

    def _on_readable(self) -> None:
        """Test the session after data that no statement requested: a notification or the end of the session."""
        if self._executing or self._socket is None:
            return
        self._socket.pause()
        self._test = asyncio.create_task(self._test_session(self._socket))

    async def _test_session(self, socket: WatchedSocket) -> None:
        connection = self._connection
        try:
            with contextlib.suppress(psycopg.Error):
                await self.execute("SELECT 1")
        finally:
            if connection is not None and not connection.closed:  # else its end would be reported for ever
                socket.resume()


async def terminate_leader(address: Address, record: LeaderRecord) -> None:
    """End the session of a leader that hangs where its process cannot be killed; see ``Engine.terminate``.

    Ends only sessions of its own role, which needs no further privilege.

    Raises:
        SeatError: There is no such session, or the server cannot be reached.
    """
    try:
        connection = await connect_async(address.url, settings(address.schema))
        try:
            ended = await execute(connection, _TERMINATE, (record.term,), within=ANSWER_TIMEOUT_S)
        finally:
            await connection.close()
    except psycopg.Error as error:
        raise SeatError(f"{address.pool}: {describe_error(error)}{way_out(error)}") from error
    if ended != [(True,)]:
        raise SeatError(f"{address.pool}: there is no session of term {record.term} that this role may end")
