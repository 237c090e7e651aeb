"""The ledger of the file engine: ``ledger.db``, SQLite in WAL mode."""

from __future__ import annotations

import sqlite3

from election.core.clock import Clock
from election.core.errors import LedgerVersionError
from election.engines.sql.ledger import SqlLedger

from .database import SqliteDatabase, newer, stored_version
from .schema import VERSION


class SqliteLedger(SqlLedger):
    """A ledger in one file.

    path: of the database; ``:memory:`` for one that is gone with the process.
    durable: whether each commit waits for the disk. Without it a crash of a process loses nothing, but a power cut
        can take the last claims along, and their ticks may run again.
    look_only: read, never create or change anything.
    keeper: set a corrupt file aside and begin a new one, as a leader may.
    clock: dates what is written.
    """

    def __init__(
        self,
        path: str,
        *,
        durable: bool = False,
        look_only: bool = False,
        keeper: bool = False,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(SqliteDatabase(path, durable=durable, create=not look_only, keeper=keeper), clock)
        self._path = path

    def check(self) -> None:
        version = None if self._path == ":memory:" else stored_version(self._path)
        if version is not None and version > VERSION:
            raise LedgerVersionError(newer(self._path, version))

    async def integrity(self) -> list[str]:
        return await self.database.read(_integrity)


def _integrity(connection: sqlite3.Connection) -> list[str]:
    found = [row[0] for row in connection.execute("PRAGMA integrity_check(20)")]
    return [] if found == ["ok"] else found
