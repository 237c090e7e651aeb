"""Removal of old history in SQL, in small steps."""

from __future__ import annotations

from .database import Connection
from .totals import forget_jobs

PRUNE_SCAN_FACTOR = 20
"""Oldest rows that are looked at per row that may be removed: looking at all of them would keep claims waiting."""


def prune(connection: Connection, before: int, at_most: int) -> int:
    """Remove up to ``at_most`` rows of each kind older than ``before`` (microseconds); returns how many were removed.

    ``settled_until`` stays, and with it the certainty that nothing runs twice.
    """
    looked_at = at_most * PRUNE_SCAN_FACTOR
    oldest_claim = f"SELECT {connection.dialect.first_term} FROM runs ORDER BY seq LIMIT 1"
    runs = connection.execute(
        "DELETE FROM runs WHERE seq IN"
        " (SELECT seq FROM (SELECT seq, claimed_at, outcome FROM runs ORDER BY seq LIMIT ?) AS oldest"
        " WHERE claimed_at < ? AND outcome IS NOT NULL ORDER BY seq LIMIT ?)",
        (looked_at, before, at_most),
    ).rowcount
    skips = connection.execute(
        "DELETE FROM skips WHERE seq IN (SELECT seq FROM (SELECT seq, at FROM skips ORDER BY seq LIMIT ?) AS oldest"
        " WHERE at < ? ORDER BY seq LIMIT ?)",
        (looked_at, before, at_most),
    ).rowcount
    terms = connection.execute(  # those that died have no end; none goes that a run still names
        "DELETE FROM terms WHERE term IN (SELECT term FROM terms WHERE coalesce(ended_at, began_at) < ?"
        f" AND term < (SELECT max(term) FROM terms) AND term < coalesce(({oldest_claim}), term + 1)"
        " ORDER BY term LIMIT ?)",
        (before, at_most),
    ).rowcount
    connection.execute("DELETE FROM requests WHERE done_at < ?", (before,))
    connection.execute("DELETE FROM epochs WHERE until < ?", (before,))
    if runs + skips:
        connection.execute(f"UPDATE pruned SET until = {connection.dialect.greatest}(until, ?)", (before,))
        forget_jobs(connection, before)
    return runs + skips + terms
