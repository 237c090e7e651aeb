"""Sleeping winner: a session that was granted the seat, and whose process does not begin a term.

The server grants the lock to the first session of the queue, although that worker may be stopped or its event loop
blocked; nobody would lead until it wakes. So the other workers end such a session, and the next in the queue has its
turn (docs/pitfalls.md#62).
"""

from __future__ import annotations

from typing import Any

import psycopg

from election.core.events import named
from election.core.logs import log

from .address import Address
from .connection import ANSWER_TIMEOUT_S, execute

MIN_GRACE_S = 1.0
"""Seconds that a winner has to begin its term, or two heartbeats if they are longer."""

# A session is idle since the server answered its last statement, the grant or a later one. A leader's session is left
# alone, even without heartbeats: the fence ends such a leader.
_END = (
    "SELECT it.pid, pg_terminate_backend(it.pid) FROM pg_locks AS held, pg_stat_get_activity(held.pid) AS it"
    " WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 1"
    " AND held.classid::bigint = (%s::bigint >> 32) & 4294967295 AND held.objid::bigint = %s::bigint & 4294967295"
    " AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND it.pid <> %s AND it.state = 'idle' AND it.state_change < clock_timestamp() - make_interval(secs => %s)"
    " AND it.usesysid = (SELECT oid FROM pg_roles WHERE rolname = current_user)"
    " AND NOT EXISTS (SELECT 1 FROM leader WHERE leader.backend = it.pid AND leader.backend_start = it.backend_start"
    """ AND position('"standing":"leading"' IN record) > 0)"""
)


def grace_for(heartbeat: float) -> float:
    """Seconds that a winner has to begin its term."""
    return max(MIN_GRACE_S, 2 * heartbeat)


async def end_sleeping_winner(
    connection: psycopg.AsyncConnection[Any], address: Address, grace_s: float, *, own_session: int
) -> None:
    """End the session that holds the seat, if it has not begun a term within ``grace_s`` seconds.

    Ends only sessions of its own role, which needs no further privilege.

    Args:
        connection: Another session.
        address: Server and schema of the pool.
        grace_s: Seconds, as in ``grace_for``.
        own_session: Server process of this worker's session for the lock, which is left alone: this worker is awake.

    Raises:
        psycopg.Error: The server cannot be queried.
    """
    key = address.key("seat")
    for session, ended in await execute(connection, _END, (key, key, own_session, grace_s), within=ANSWER_TIMEOUT_S):
        if ended:
            log.warning(
                "ended session %d of %s: it was granted the seat, and has not begun a term for %.1f s",
                session,
                address.pool,
                grace_s,
                extra=named("sleeping_winner_ended"),
            )
