"""The fence of the PostgreSQL engine: the server ends the session of a leader that hangs where nobody can kill it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import psycopg

from election.core.errors import SeatError
from election.core.term import LeaderRecord

from .address import Address
from .session import ask, connect_async, describe_error, settings, way_out

WITHIN = 5.0
"""Seconds in which the server has to do it."""

_EVICT = (
    "SELECT pg_terminate_backend(it.pid) FROM leader, pg_stat_get_activity(backend) AS it"
    " WHERE it.backend_start = leader.backend_start AND term = %s"
    " AND it.usesysid = (SELECT oid FROM pg_roles WHERE rolname = current_user)"
)


def evictor(address: Address) -> Callable[[LeaderRecord], Awaitable[None]]:
    """See ``Engine.evict``. It ends sessions of its own role only, which needs no further privilege."""

    async def evict(record: LeaderRecord) -> None:
        try:
            connection = await connect_async(address.url, settings(address.schema))
            try:
                ended = await ask(connection, _EVICT, (record.term,), within=WITHIN)
            finally:
                await connection.close()
        except psycopg.Error as error:
            raise SeatError(f"{address.pool}: {describe_error(error)}{way_out(error)}") from error
        if ended != [(True,)]:
            raise SeatError(f"{address.pool}: there is no session of term {record.term} that this role may end")

    return evict
