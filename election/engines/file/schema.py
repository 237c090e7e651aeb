"""Tables of the ledger in SQLite, and the steps from each version to the next: forward only, in one transaction."""

from __future__ import annotations

import sqlite3

from election.engines.sql.schema import create_indexes, create_tables
from election.schedule.store import check_schema_version

_NO_ROWID = dict.fromkeys(("jobs", "epochs", "totals"), "WITHOUT ROWID")
_TABLES = [
    *create_tables(numbered="INTEGER PRIMARY KEY AUTOINCREMENT", options=_NO_ROWID),
    *create_indexes(),
]

_STEPS = [_TABLES]

FIRST_VERSION = 12
"""The first schema that this code reads: 1 to 11 were written before the first release."""

VERSION = FIRST_VERSION + len(_STEPS) - 1
"""The schema that this code writes."""


def check_version(path: str, version: int) -> None:
    """Raise ``LedgerVersionError`` if this code cannot read a database file with this version of the schema."""
    way_out = f"stop the pool, move {path} away with its -wal and -shm, and start again; term numbers go on"
    check_schema_version(path, version, first=FIRST_VERSION, latest=VERSION, way_out=way_out)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables up to ``VERSION``. If several processes migrate at once, only the first does the work."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for step in _STEPS[max(0, version - FIRST_VERSION + 1) :]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version={VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has rolled it back already
            connection.execute("ROLLBACK")
        raise
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # so that the file's own header has the version
