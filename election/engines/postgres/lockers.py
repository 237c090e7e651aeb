"""Sessions of others that keep tables of the pool locked: an administrator's open transaction, a migration tool."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import psycopg
from psycopg import errors

from .connection import way_out

LOCK_TIMEOUT_MS = 500
"""Time that a statement of the seat waits for a lock, which only a stranger keeps: less than a session is trusted."""

MONITOR_LOCK_TIMEOUT_MS = 2000
"""The same of the monitors, which wait for each other when they remove workers that are gone."""

LOCKER = (
    "SELECT held.pid, it.application_name, it.state FROM pg_locks AS held"
    " JOIN pg_class ON pg_class.oid = held.relation AND pg_class.relnamespace = current_schema()::regnamespace"
    " JOIN pg_database ON pg_database.oid = held.database AND datname = current_database()"
    " LEFT JOIN pg_stat_activity AS it ON it.pid = held.pid"
    " WHERE held.granted AND held.mode <> 'AccessShareLock' AND held.pid <> pg_backend_pid()"
    " ORDER BY it.application_name = current_setting('application_name'), it.xact_start LIMIT 1"
)
"""The session that has kept any table of the pool locked for longest; one of the pool's own if there is no other."""


def describe_locker(found: Sequence[tuple[Any, ...]]) -> str:
    """Advice about the session that ``LOCKER`` has found, as the end of a message; empty if it has found none."""
    for pid, application, state in found:
        about = ", ".join(filter(None, (application, state)))
        return (
            f"; session {pid} ({about or 'of another role'}) keeps a table of the pool locked: end its transaction, or"
            f" SELECT pg_terminate_backend({pid})"
        )
    return ""


async def advise(execute: Callable[[str], Awaitable[Sequence[tuple[Any, ...]]]], error: Exception) -> str:
    """Return ``way_out`` of an error; if a lock was not granted in time, the session that keeps it.

    Args:
        execute: Executes a statement on a session that works.
        error: Error of another statement.
    """
    if isinstance(error, errors.LockNotAvailable):
        with contextlib.suppress(psycopg.Error):
            return describe_locker(await execute(LOCKER)) or way_out(error)
    return way_out(error)
