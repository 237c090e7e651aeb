"""Copy of a ledger's whole history to another database, in batches; an interrupted copy resumes where it stopped.

At the end the target is compared with the source, row by row; a successful write alone is no proof.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

from election.core.errors import LedgerError

from .database import Connection, Database
from .schema import TABLES, Table

ROWS_PER_TRANSACTION = 5000
"""Rows in one transaction."""

Progress = Callable[[str, int], None]


MOVED = tuple(table for table in TABLES if table.moves)
"""Tables whose rows are copied; the counters last, since writes to the others would change them."""


async def transfer(source: Database, target: Database, progress: Progress) -> dict[str, int]:
    """Copy ``source`` to ``target``; returns the number of rows of each table.

    No process may write to either meanwhile. progress: called with the table and the number of rows copied. Raises
    ``LedgerError`` if the target has another history, or differs from the source at the end.
    """
    await _refuse_another_history(source, target)
    counts = {}
    for table in MOVED:
        counts[table.name] = await _copy(table, source, target, progress)
    await target.write(_renumber)
    for table in MOVED:
        progress(f"{table.name}, compared", counts[table.name])
        if await _digest(table, source) != await _digest(table, target):
            raise LedgerError(
                f"the table {table.name} differs between the pools: somebody has written meanwhile; check that both"
                " pools are stopped, and migrate again"
            )
    return counts


async def _refuse_another_history(source: Database, target: Database) -> None:
    for name, key in (("terms", "term"), ("runs", "seq"), ("skips", "seq")):
        table = next(table for table in MOVED if table.name == name)
        last = f"SELECT {', '.join(table.columns)} FROM {name} ORDER BY {key} DESC LIMIT 1"
        found = await target.read(_one(last))
        if found is None:
            continue
        same = f"SELECT {', '.join(table.columns)} FROM {name} WHERE {key} = ?"
        origin = await source.read(_one(same, found[0]))
        if origin is None or tuple(origin) != tuple(found):
            raise LedgerError(
                "the target has a history of its own, which would be lost: choose one that has none, or the target of"
                " the same migration, to go on with it"
            )


def _renumber(connection: Connection) -> None:
    for statement in connection.dialect.after_copy:
        connection.execute(statement)


def _one(statement: str, *values: Any) -> Callable[[Connection], Any]:
    return lambda connection: connection.execute(statement, values).fetchone()


def _each(statement: str, rows: Iterable[Sequence[Any]]) -> Callable[[Connection], None]:
    def write(connection: Connection) -> None:
        for row in rows:
            connection.execute(statement, row)

    return write


async def _copy(table: Table, source: Database, target: Database, progress: Progress) -> int:
    if not table.appended:
        await target.write(_each(f"DELETE FROM {table.name}", [()]))
    places = ", ".join("?" * len(table.columns))
    insert = f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES ({places})"
    after: tuple[Any, ...] | None = None
    count = 0
    if table.appended:
        count, last = await target.read(_one(f"SELECT count(*), max(seq) FROM {table.name}"))
        after = None if last is None else (last,)
    async for rows in _stretches(table, source, after):
        await target.write(_each(insert, rows))
        count += len(rows)
        progress(table.name, count)
    return count


async def _stretches(
    table: Table, database: Database, after: tuple[Any, ...] | None = None
) -> AsyncIterator[list[tuple[Any, ...]]]:
    """Batches of the table's rows in the order of their key, starting after ``after``."""
    key = ", ".join(table.key)
    beyond = f"({key}) > ({', '.join('?' * len(table.key))})"
    while True:

        def read(connection: Connection, after: tuple[Any, ...] | None = after) -> list[tuple[Any, ...]]:
            where = "" if after is None else f" WHERE {beyond}"
            select = f"SELECT {', '.join(table.columns)} FROM {table.name}{where} ORDER BY {key} LIMIT ?"
            return [tuple(row) for row in connection.execute(select, (*(after or ()), ROWS_PER_TRANSACTION))]

        rows = await database.read(read)
        if rows:
            yield rows
        if len(rows) < ROWS_PER_TRANSACTION:
            return
        after = rows[-1][: len(table.key)]


async def _digest(table: Table, database: Database) -> str:
    """Hash of the table's rows, in an order that does not depend on the database's collation."""
    found = hashlib.sha256()
    each: list[bytes] = []
    async for rows in _stretches(table, database):
        lines = [repr(row).encode() for row in rows]
        if table.appended:
            found.update(b"\n".join(lines))
        else:
            each += lines
    found.update(b"\n".join(sorted(each)))
    return found.hexdigest()
