"""Copy of a ledger's whole history to another database, in batches; an interrupted copy resumes where it stopped.

At the end the target is compared with the source, row by row; a successful write alone is no proof.
"""

from __future__ import annotations

import hashlib
import re
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


ANOTHER_HISTORY = (
    "the target has a history of its own, which would be lost: choose one that has none, or the target of the same"
    " migration, to go on with it"
)

_ADDED: tuple[tuple[str, Callable[[dict[str, Any]], bool], str], ...] = (
    (
        "jobs",
        lambda row: row["func"] is not None and not row["removed"],
        "SELECT 1 FROM jobs WHERE id = :id AND scheduled_since = :scheduled_since"
        " UNION ALL SELECT 1 FROM epochs WHERE job_id = :id AND since = :scheduled_since",
    ),
    (
        "requests",
        lambda row: row["done_at"] is None,
        "SELECT 1 FROM requests WHERE id = :id AND action = :action AND requested_at = :requested_at",
    ),
)
"""Rows that a pool can have although nobody has led it, and how to find the same one in the source, which may have
changed it since a copy that was cut off."""


async def transfer(source: Database, target: Database, progress: Progress) -> dict[str, int]:
    """Copy ``source`` to ``target``; returns the number of rows of each table.

    No process may write to either meanwhile. progress: called with the table and the number of rows copied. Raises
    ``LedgerError`` if both are the same, if the target has another history, or differs from the source at the end.
    """
    await _refuse_itself(source, target)
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


async def _refuse_itself(source: Database, target: Database) -> None:
    """Refuse two names of the same tables: the copy would begin with their removal."""
    (origin, its_schema), (place, schema) = [await database.read(_where) for database in (source, target)]
    if its_schema != schema:
        return
    if origin is None or place is None:
        raise LedgerError(
            "the target may be the source under another name, since this user may not ask where a ledger is"
            " (pg_control_system()), so nothing was copied: choose a target with another ?schema="
        )
    if origin == place:
        raise LedgerError(
            "a pool cannot be moved into itself: both names mean the same ledger, so nothing was copied; choose a"
            " target that is another directory, database or ?schema="
        )


def _where(connection: Connection) -> tuple[Any, Any]:
    place, schema = connection.execute(f"SELECT {connection.dialect.place}, {connection.dialect.schema}").fetchone()
    return place, schema


async def _refuse_another_history(source: Database, target: Database) -> None:
    """Refuse a target with rows that are not of the source; those of a copy that was cut off are."""
    for name, key in (("terms", "term"), ("runs", "seq"), ("skips", "seq"), ("audit", "seq")):
        table = next(table for table in MOVED if table.name == name)
        last = f"SELECT {', '.join(table.columns)} FROM {name} ORDER BY {key} DESC LIMIT 1"
        found = await target.read(_one(last))
        if found is None:
            continue
        same = f"SELECT {', '.join(table.columns)} FROM {name} WHERE {key} = ?"
        origin = await source.read(_one(same, found[0]))
        if origin is None or tuple(origin) != tuple(found):
            raise LedgerError(ANOTHER_HISTORY)
    for name, is_added, same in _ADDED:
        table = next(table for table in MOVED if table.name == name)
        async for rows in _stretches(table, target):
            added = [row for row in (dict(zip(table.columns, each, strict=True)) for each in rows) if is_added(row)]
            if not await source.read(_has_all(same, added)):
                raise LedgerError(ANOTHER_HISTORY)


def _has_all(same: str, rows: Sequence[dict[str, Any]]) -> Callable[[Connection], bool]:
    """Function that returns whether the query ``same``, with marks such as ``:id``, finds something for each row."""
    names, statement = re.findall(r":(\w+)", same), re.sub(r":\w+", "?", same)

    def look(connection: Connection) -> bool:
        return all(connection.execute(statement, [row[name] for name in names]).fetchone() for row in rows)

    return look


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
