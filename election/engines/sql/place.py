"""Location of a ledger, and whether it is a copy (``Copied``): one row in the table ``place``."""

from __future__ import annotations

from election.schedule.model import Copied

from .database import Connection
from .values import to_time


def note_place(connection: Connection, term: int, at: int) -> None:
    """Record the location of the ledger at the beginning of a term, ``at`` (microseconds since the epoch).

    A ledger that was last led at another location is marked as a copy.
    """
    known, here, _ = _place(connection)
    if here is None or here == known:
        return
    copied = (at, term) if known else (None, None)  # a ledger that is new, or older than this record
    connection.execute("UPDATE place SET identity = ?, copied_at = ?, copied_term = ?", (here, *copied))


def read_copied(connection: Connection) -> Copied | None:
    """Time and term of a copy that was not adopted; None if the ledger is none."""
    at, term = connection.execute("SELECT copied_at, copied_term FROM place").fetchone() or (None, None)
    if at is None:
        return None
    try:
        return Copied(to_time(at), int(term or 0))
    except (OverflowError, TypeError, ValueError):  # no worker wrote that: marked as a copy, since when is unknown
        return Copied(to_time(0), 0)


def is_moved(connection: Connection) -> bool:
    """Whether the ledger is a copy that was not adopted, or becomes one at its next term."""
    known, here, copied_at = _place(connection)
    return copied_at is not None or (known != "" and here not in {None, known})


def adopt(connection: Connection) -> bool:
    """Mark the ledger as the original; returns whether it was a copy."""
    if not is_moved(connection):
        return False
    connection.execute(
        f"UPDATE place SET identity = coalesce({connection.dialect.place}, ''), copied_at = NULL, copied_term = NULL"
    )
    return True


def _place(connection: Connection) -> tuple[str, str | None, int | None]:
    """Location at the last term, current location, and time since when the ledger is marked as a copy.

    The first is empty if unknown, the second None if unknown, the third None if the ledger is no copy.
    """
    row = connection.execute(f"SELECT identity, {connection.dialect.place}, copied_at FROM place").fetchone()
    if row is None:  # somebody removed it
        return "", None, None
    known, here, copied_at = row
    return str(known), here, copied_at
