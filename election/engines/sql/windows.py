"""A stretch of time, for a picture of it: found without an index, which each claim would have to pay for.

Rows are written in the order of time, so the keys at which a stretch begins and ends are found by halving. Whatever is
asked, a bounded number of rows is looked at, since the ledger's thread has other work.
"""

from __future__ import annotations

from datetime import datetime

from election.schedule.history import RunRow, SkipRow, TermRow, Window

from .database import Connection
from .rows import RUN_COLUMNS, SKIP_COLUMNS, TERM_COLUMNS, run_row, skip_row, term_row, to_time, to_us

BEFORE = 500
"""Rows before the stretch that are looked at for runs that reach into it."""

LOOKED_THROUGH = 20_000
"""Rows that are looked through for runs that did not succeed, where there are too many to give all."""


def window(connection: Connection, since: datetime, until: datetime, limit: int) -> Window:
    """See ``LedgerReader.window``."""
    stretch = to_us(since), to_us(until)
    runs, runs_every = _runs(connection, *stretch, limit)
    skips, skips_every = _skips(connection, *stretch, limit)
    terms = _terms(connection, *stretch, limit)
    return Window(terms, runs, skips, runs_every, skips_every, _begins(connection))


def _runs(connection: Connection, since: int, until: int, limit: int) -> tuple[list[RunRow], int]:
    first, beyond = _keys(connection, "runs", "seq", "claimed_at", since, until)
    every = _every(first, beyond, limit)
    steps = (first, every, beyond, beyond)
    select = f"SELECT {RUN_COLUMNS} FROM runs"
    found = [
        *connection.execute(f"{select} WHERE {_IN_STEPS}", steps),
        *connection.execute(f"{select} WHERE seq >= ? AND seq < ? AND ended_at >= ?", (first - BEFORE, first, since)),
        *connection.execute(f"{select} WHERE outcome IS NULL AND claimed_at <= ? LIMIT ?", (until, limit)),
    ]
    if every > 1:
        found += connection.execute(
            f"{select} WHERE seq >= ? AND seq < ? AND outcome <> 'succeeded' ORDER BY seq DESC LIMIT ?",
            (max(first, beyond - LOOKED_THROUGH), beyond, limit // 2),
        )
    by_seq = {row["seq"]: run_row(row) for row in found}
    return [by_seq[seq] for seq in sorted(by_seq, reverse=True)], every


def _skips(connection: Connection, since: int, until: int, limit: int) -> tuple[list[SkipRow], int]:
    first, beyond = _keys(connection, "skips", "seq", "at", since, until)
    every = _every(first, beyond, limit)
    steps = (first, every, beyond, beyond)
    found = connection.execute(f"SELECT {SKIP_COLUMNS} FROM skips WHERE {_IN_STEPS} ORDER BY seq DESC", steps)
    return [skip_row(row) for row in found], every


def _terms(connection: Connection, since: int, until: int, limit: int) -> list[TermRow]:
    """Those that began in it, and the one before, which may last into it."""
    first, beyond = _keys(connection, "terms", "term", "began_at", since, until)
    before = "SELECT coalesce(max(term), ?) FROM terms WHERE term < ?"
    found = connection.execute(
        f"SELECT {TERM_COLUMNS} FROM terms WHERE term >= ({before}) AND term < ? ORDER BY term DESC LIMIT ?",
        (first, first, beyond, limit),
    )
    return [term_row(row) for row in found]


def _begins(connection: Connection) -> datetime | None:
    oldest = connection.execute(
        "SELECT min(at) FROM (SELECT * FROM (SELECT claimed_at AS at FROM runs ORDER BY seq LIMIT 1) AS run"
        " UNION ALL SELECT * FROM (SELECT began_at FROM terms ORDER BY term LIMIT 1) AS term) AS oldest"
    ).fetchone()[0]
    return None if oldest is None else to_time(oldest)


_IN_STEPS = (
    "seq IN (WITH RECURSIVE step(n) AS (SELECT ? UNION ALL SELECT n + ? FROM step WHERE n < ?)"
    " SELECT n FROM step WHERE n < ?)"
)


def _every(first: int, beyond: int, limit: int) -> int:
    return max(1, -(-(beyond - first) // limit))


def _keys(connection: Connection, table: str, key: str, time: str, since: int, until: int) -> tuple[int, int]:
    """The first key of the stretch, and the first beyond it."""
    return _at(connection, table, key, time, since), _at(connection, table, key, time, until + 1)


def _at(connection: Connection, table: str, key: str, time: str, moment: int) -> int:
    """The smallest key of a row that is not earlier than ``moment``; one more than the largest if there is none."""
    low, high = connection.execute(
        f"SELECT coalesce((SELECT min({key}) FROM {table}), 1), coalesce((SELECT max({key}) FROM {table}) + 1, 1)"
    ).fetchone()
    probe = f"SELECT {key}, {time} FROM {table} WHERE {key} >= ? ORDER BY {key} LIMIT 1"
    while low < high:
        middle = (low + high) // 2
        found, at = connection.execute(probe, (middle,)).fetchone()
        if at < moment:
            low = found + 1
        else:
            high = middle
    return int(low)
