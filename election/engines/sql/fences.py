"""Intents to fence a leader: written down before it is done, so that a takeover can be explained."""

from __future__ import annotations

from .database import Connection


def exists(connection: Connection, term: int) -> bool:
    """Whether there was an intent to fence the leader of ``term``."""
    return connection.execute("SELECT 1 FROM fences WHERE term = ?", (term,)).fetchone() is not None


def note(connection: Connection, term: int, pid: int, by_pid: int, at: int, silent: float, every: float) -> bool:
    """Write an intent down, unless there was one in the last ``every`` seconds. ``at``: microseconds."""
    if connection.execute("SELECT 1 FROM fences WHERE at > ?", (at - round(every * 1e6),)).fetchone() is not None:
        return False
    connection.execute(
        "INSERT INTO fences (term, pid, by_pid, at, silent_s) VALUES (?, ?, ?, ?, ?) ON CONFLICT (term) DO UPDATE"
        " SET pid = excluded.pid, by_pid = excluded.by_pid, at = excluded.at, silent_s = excluded.silent_s",
        (term, pid, by_pid, at, round(silent, 3)),
    )
    return True
