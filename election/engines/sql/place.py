"""Where a ledger lies, and whether it is a copy (``Copied``): one row, in the table ``place``."""

from __future__ import annotations

from election.schedule.model import Copied

from .database import Connection
from .rows import to_time


def note_place(connection: Connection, term: int, at: int) -> None:
    """Note at the beginning of a term, ``at`` so many microseconds, where the ledger is led.

    It is a copy if it was led somewhere else before.
    """
    known, here, _ = _place(connection)
    if here is None or here == known:
        return
    copied = (at, term) if known else (None, None)  # a ledger that is new, or from before places were noted
    connection.execute("UPDATE place SET identity = ?, copied_at = ?, copied_term = ?", (here, *copied))


def read_copied(connection: Connection) -> Copied | None:
    """A copy that nobody has adopted; None if it is none."""
    at, term = connection.execute("SELECT copied_at, copied_term FROM place").fetchone()
    return None if at is None else Copied(to_time(at), term)


def is_moved(connection: Connection) -> bool:
    """Whether the ledger is such a copy, or will be one once it is led."""
    known, here, copied_at = _place(connection)
    return copied_at is not None or (known != "" and here not in {None, known})


def adopt(connection: Connection) -> bool:
    """Take the ledger for the original; returns whether it was a copy."""
    if not is_moved(connection):
        return False
    connection.execute(
        f"UPDATE place SET identity = coalesce({connection.dialect.place}, ''), copied_at = NULL, copied_term = NULL"
    )
    return True


def _place(connection: Connection) -> tuple[str, str | None, int | None]:
    """Where the ledger was last led (empty if that is not known), where it is, and since when it is noted as a copy.

    None for where it is, if that cannot be told, and for a ledger that is no copy.
    """
    known, here, copied_at = connection.execute(
        f"SELECT identity, {connection.dialect.place}, copied_at FROM place"
    ).fetchone()
    return known, here, copied_at
