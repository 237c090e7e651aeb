"""What is refused, within the transaction that would write it."""

from __future__ import annotations

from election.core.errors import StaleTermError, UnknownJobError

from .database import Connection


def last_term(connection: Connection) -> int:
    """The largest number of a term that was begun; 0 if none."""
    return int(connection.execute("SELECT coalesce(max(term), 0) FROM terms").fetchone()[0])


def refuse_stale(connection: Connection, term: int) -> None:
    """Raises ``StaleTermError`` if a later term than ``term`` has begun."""
    latest = last_term(connection)
    if latest > term:
        raise StaleTermError(f"term {term} is over: term {latest} has begun")


def refuse_unknown(connection: Connection, job_id: str) -> None:
    """Raises ``UnknownJobError`` for a job that the pool does not have, or has no more."""
    known = "SELECT 1 FROM jobs WHERE id = ? AND retired_at IS NULL AND removed = 0"
    if connection.execute(known, (job_id,)).fetchone() is None:
        raise UnknownJobError(f"there is no job {job_id!r} in this pool")
