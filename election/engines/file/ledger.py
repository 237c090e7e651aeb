"""The ledger of the file engine: ``ledger.db``, SQLite in WAL mode."""

from __future__ import annotations

import sqlite3

from election.core.clock import Clock
from election.engines.sql.store import SqlStore
from election.schedule.ledger import Ledger

from .database import SqliteDatabase, stored_version
from .schema import check_version
from .stalled_writer import StalledWriter


class SqliteStore(SqlStore):
    """Store in one file, for arguments see ``SqliteLedger``."""

    def __init__(
        self, path: str, *, durable: bool, look_only: bool, keeper: bool, stalled_writer: StalledWriter | None
    ) -> None:
        super().__init__(
            SqliteDatabase(path, durable=durable, create=not look_only, keeper=keeper, stalled_writer=stalled_writer)
        )
        self._path = path

    def check(self) -> None:
        version = None if self._path == ":memory:" else stored_version(self._path)
        if version is not None:
            check_version(self._path, version)

    async def integrity(self) -> list[str]:
        return await self.database.read(_integrity)


class SqliteLedger(Ledger):
    """A ledger in one file.

    Args:
        path: The database, or ``:memory:`` for one that ends with the process.
        durable: Whether each commit waits for the disk. Without it a crash of a process loses nothing, but a power cut
            can lose the last claims, and their ticks may run again.
        look_only: Read, never create or change anything.
        keeper: Set a corrupt file aside and begin a new one, as a leader may.
        stalled_writer: Ends a worker that keeps the file locked; None to report it only.
        clock: Clock that dates what is written.
    """

    def __init__(
        self,
        path: str,
        *,
        durable: bool = False,
        look_only: bool = False,
        keeper: bool = False,
        stalled_writer: StalledWriter | None = None,
        clock: Clock | None = None,
    ) -> None:
        store = SqliteStore(path, durable=durable, look_only=look_only, keeper=keeper, stalled_writer=stalled_writer)
        super().__init__(store, clock)


def _integrity(connection: sqlite3.Connection) -> list[str]:
    found = [row[0] for row in connection.execute("PRAGMA integrity_check(20)")]
    return [] if found == ["ok"] else found
