"""The session that holds the pool's advisory lock, or waits for it in the server's queue.

The server wakes exactly one of those who wait, at the moment at which the lock is free (P6, P7). The lock is the
session's: it is gone when the session is, and the session is tested by using it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import psycopg

from .address import Address
from .session import ITSELF, ask, close_ear, connect_async, describe_error, hang_up, noticed, open_ear, settings

WAIT = 30.0
"""Seconds that one statement waits for the lock at most, see ``schema.wait_for_seat``."""

ANSWER_WITHIN = 5.0
"""Seconds in which the server has to answer who does not wait for the lock."""


class Signal(asyncio.Event):
    """Set until somebody has taken notice."""

    async def noticed(self) -> None:
        await self.wait()
        self.clear()


class SeatLock:
    """One session at a time, opened when it is needed.

    limit: seconds for which the server keeps the lock of a client that has fallen silent, at least.
    """

    def __init__(self, address: Address, limit: float) -> None:
        self._address = address
        self._key = address.key("seat")
        keep = math.ceil(limit)
        self._settings = settings(
            address.schema,
            synchronous_commit="off",  # a heartbeat need not outlive the server
            tcp_keepalives_idle=keep,
            tcp_keepalives_interval=1,
            tcp_keepalives_count=3,
            tcp_user_timeout=(keep + 3) * 1000,
        )
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._waiter: asyncio.Task[None] | None = None
        self._ear = -1
        self._test: asyncio.Task[None] | None = None
        self._asking = 0
        self.session: tuple[int, datetime | None] = 0, None
        """The server's process for it, and since when."""
        self.held = False
        """Whether the server gave us the lock, and the session was not seen to end since."""
        self.ended = Signal()
        """Set when the session that held the lock is seen to end."""
        self.wait_for_changes = Signal()
        """Set when others may have written to the ledger, since ``listen``."""

    async def take(self) -> bool:
        """Try once, without waiting for its holder. Raises ``psycopg.Error``."""
        if self._waiter is not None:
            if not self._waiter.done():
                return False
            waiter, self._waiter = self._waiter, None
            waiter.result()
        if not self.held:
            await self._connect()
            [(self.held,)] = await self.ask("SELECT pg_try_advisory_lock(%s)", (self._key,))
        return self.held

    async def granted(self) -> None:
        """Return when a try is worth it: the lock is ours, or the session is lost. Cancelled, it waits on by itself."""
        if self.held:
            return
        if self._waiter is None:
            self._waiter = asyncio.create_task(self._wait(), name="election seat")
            self._waiter.add_done_callback(noticed)
        await asyncio.wait([self._waiter])

    async def ask(
        self, statement: str, parameters: Sequence[Any] = (), *, within: float = ANSWER_WITHIN
    ) -> list[tuple[Any, ...]]:
        """A statement on the lock's own session: an answer is the proof that it lives. Raises ``psycopg.Error``."""
        if self._connection is None:
            raise psycopg.OperationalError("the session has ended")
        self._asking += 1
        try:
            return await ask(self._connection, statement, parameters, within=within)
        except psycopg.Error:
            if self.held and self._connection.closed:
                self.held = False
                self.ended.set()
            raise
        finally:
            self._asking -= 1

    async def listen(self) -> None:
        """Hear of what others write to the ledger, until the lock is given up. Raises ``psycopg.Error``."""
        await self.ask(f'LISTEN "{self._address.ledger_channel}"')
        self.wait_for_changes.set()  # by what was written before

    async def give_up(self) -> None:
        """Free the lock, and keep the session. Raises ``psycopg.Error``; then the lock is gone with the session."""
        self.held = False
        try:
            await self.ask(
                "UNLISTEN *; SELECT pg_advisory_unlock_all()"
            )  # once is not enough for what was asked for twice
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
        self.held = False
        if self._ear >= 0:
            asyncio.get_running_loop().remove_reader(self._ear)
            close_ear(self._ear)
            self._ear = -1
        if connection is not None:
            hang_up(connection)
            with contextlib.suppress(psycopg.Error):
                async with connection.lock:  # whoever waits on it has been told by now
                    pass
            await connection.close()

    async def _connect(self) -> None:
        if self._connection is not None and not self._connection.closed:
            return
        await self._disconnect()
        self._connection = await connect_async(self._address.url, self._settings)
        self._connection.add_notify_handler(lambda _: self.wait_for_changes.set())
        [(pid, since)] = await self.ask(ITSELF)
        self.session = pid, since
        self._ear = open_ear(self._connection)
        asyncio.get_running_loop().add_reader(self._ear, self._heard)

    async def _wait(self) -> None:
        await self._connect()
        while not self.held:
            patience = WAIT * random.uniform(0.8, 1.2)
            statement = "SELECT wait_for_seat(%s, %s)"
            parameters = (self._key, round(patience * 1000))
            [(self.held,)] = await self.ask(statement, parameters, within=patience + ANSWER_WITHIN)

    def _heard(self) -> None:
        """The server speaks though it was not asked: to say goodbye, or what we listen for."""
        if self._asking:
            return
        asyncio.get_running_loop().remove_reader(self._ear)
        self._test = asyncio.create_task(self._listen_again())

    async def _listen_again(self) -> None:
        with contextlib.suppress(psycopg.Error):
            await self.ask("SELECT 1")
            if self._ear >= 0:
                asyncio.get_running_loop().add_reader(self._ear, self._heard)


def lost(error: Exception) -> str:
    """Why a session is no longer ours, in words."""
    return f"the session that holds the seat has ended: {describe_error(error)}"
