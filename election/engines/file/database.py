"""SQLite database in a file; handles a file that is replaced, removed or corrupted while in use."""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from election.core.errors import LedgerBusyError, LedgerError
from election.engines.sql.connection_thread import ThreadedDatabase
from election.engines.sql.database import Dialect

from .atomic_files import read_file
from .checkpoint import MAX_WAL_PAGES, Checkpoints
from .file_identity import identify_file
from .lock_holders import describe_process, find_writer
from .schema import VERSION, check_version, migrate
from .stalled_writer import POLL_INTERVAL_S, StalledWriter

_T = TypeVar("_T")

BUSY_TIMEOUT_S = 5.0
"""Seconds that one writer waits for another."""

URGENT_TIMEOUT_S = 0.25
"""The same for an urgent write: many times what a transaction takes."""


class SqliteConnection(sqlite3.Connection):
    """Connection with SQLite's dialect."""

    dialect = Dialect(
        greatest="max",
        first_term="coalesce(json_extract(CASE WHEN json_valid(attempts) THEN attempts END, '$[0].term'), term)",
        tags="(SELECT value FROM json_each(CASE WHEN json_valid(jobs.info) THEN jobs.info END, '$.tags'))",
        version="PRAGMA data_version",
        place="place()",
    )


class SqliteDatabase(ThreadedDatabase[SqliteConnection]):
    """A database file, opened when first used.

    path: the file, or ``:memory:``.
    durable: whether a commit waits for the disk (``synchronous=FULL``); otherwise a power cut can undo the last ones.
    create: whether to make the file, and bring its schema up to date; False for readers.
    keeper: whether to set a corrupt file aside and begin a new one; only the leader may.
    stalled_writer: ends a worker that keeps the file locked; None to report it only.
    """

    at_hand = True

    def __init__(
        self,
        path: str,
        *,
        durable: bool = False,
        create: bool = True,
        keeper: bool = False,
        stalled_writer: StalledWriter | None = None,
    ) -> None:
        super().__init__()
        self.path = path
        self._durable = durable
        self._create = create
        self._keeper = keeper
        self._stalled_writer = stalled_writer
        self._wait_s = BUSY_TIMEOUT_S if stalled_writer is None else POLL_INTERVAL_S
        self._identity: tuple[int, int] | None = None
        self._log: tuple[int, int] | None = None
        self._checkpoints: Checkpoints | None = None

    def _read(self, function: Callable[[Any], _T]) -> _T:
        return self._retry_while_busy(functools.partial(_transaction, self.path, "BEGIN", function))

    def _write(self, function: Callable[[Any], _T]) -> _T:
        result = self._retry_while_busy(functools.partial(_transaction, self.path, "BEGIN IMMEDIATE", function))
        if self._checkpoints is not None:
            self._checkpoints.written()
        return result

    def _write_urgently(self, function: Callable[[Any], _T]) -> _T:
        def write(connection: SqliteConnection) -> _T:
            connection.execute(f"PRAGMA busy_timeout={URGENT_TIMEOUT_S * 1000:.0f}")
            try:
                return _transaction(self.path, "BEGIN IMMEDIATE", function, connection)
            finally:
                connection.execute(f"PRAGMA busy_timeout={self._wait_s * 1000:.0f}")

        try:
            return self._guarded(write)
        except LedgerBusyError:
            os.utime(self.path)  # SQLite has found the lock in memory; this waits for a disk that stands still
            raise

    def _retry_while_busy(self, function: Callable[[SqliteConnection], _T]) -> _T:
        """Wait for other writers; one that stands still within its transaction is ended, if that is asked for."""
        waited = 0.0
        while True:
            try:
                return self._guarded(function)
            except LedgerBusyError:
                waited += self._wait_s
                ended = self._stalled_writer is not None and self._stalled_writer.count_wait(self._wait_s)
                if not ended and waited >= BUSY_TIMEOUT_S:
                    raise

    def _guarded(self, function: Callable[[SqliteConnection], _T]) -> _T:
        try:
            return function(self._connected())
        except sqlite3.Error as error:
            self._disconnect()
            code = getattr(error, "sqlite_errorcode", 0)
            if _is_corrupt(code):
                aside = self._set_aside() if self._keeper else None
                kept = f"; it is kept as {aside}, and a new one is begun" if aside else ""
                raise LedgerError(f"{self.path} is corrupt: {error}{kept}") from error
            if code & 0xFF == sqlite3.SQLITE_BUSY:
                writer = find_writer(self.path)
                which = "" if writer is None else f": {describe_process(writer)}"
                raise LedgerBusyError(f"{self.path}: {error}; another process has kept it locked{which}") from error
            raise LedgerError(f"{self.path}: {error}{_way_out(code)}") from error
        except OSError as error:
            self._disconnect()
            missing = isinstance(error, FileNotFoundError) and not os.path.isdir(os.path.dirname(self.path))
            way_out = "; a worker of the pool makes its directory when it starts" if missing else ""
            raise LedgerError(f"{self.path}: {error.strerror}{way_out}") from error

    def _connected(self) -> SqliteConnection:
        if self._connection is not None and self.path != ":memory:" and self._identity != _identity(self.path):
            self._disconnect()
            raise LedgerError(f"{self.path} was removed or replaced; it is opened anew")
        if self._connection is not None and self._log is not None and self._log != _identity(f"{self.path}-wal"):
            self._save_log(self._connection)
        if self._connection is None:
            self._connection = self._open()
        return self._connection

    def _open(self) -> SqliteConnection:
        if self.path == ":memory:":
            connection = sqlite3.connect(
                self.path, isolation_level=None, check_same_thread=False, factory=SqliteConnection
            )
        else:
            if self._create and not os.path.exists(self.path):
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600))
            self._identity = _identity(self.path)
            uri = f"file:{_quoted(self.path)}?mode={'rw' if self._create else 'ro'}"
            self._checkpoints = Checkpoints(self.path, uri, syncs=not self._durable) if self._create else None
            connection = sqlite3.connect(
                uri,
                uri=True,
                timeout=self._wait_s,
                isolation_level=None,
                check_same_thread=False,
                factory=SqliteConnection,
            )
        connection.row_factory = sqlite3.Row
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            check_version(self.path, version)
            if self._create:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute(f"PRAGMA synchronous={'FULL' if self._durable else 'NORMAL'}")
                connection.execute(f"PRAGMA wal_autocheckpoint={MAX_WAL_PAGES}")
                if version < VERSION:
                    migrate(connection)
            connection.create_function("place", 0, functools.partial(identify_file, self.path))
            self._log = _identity(f"{self.path}-wal")
        except BaseException:
            connection.close()
            raise
        return connection

    def _save_log(self, connection: SqliteConnection) -> None:
        """Handle an unlinked WAL: it would vanish with its last reader, together with the claims written to it (P3).

        The keeper, which writes most of it and checks most often, saves it into the file; other workers only close it.
        """
        if self._keeper and connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise LedgerError(f"{self.path}-wal was removed, and its content cannot be saved yet: a reader is busy")
        self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if self._checkpoints is not None:
            self._checkpoints.end()
        if connection is not None:
            connection.close()

    def _set_aside(self) -> str | None:
        """Rename the opened file, unless another file has replaced it; a corrupt file is kept, never deleted."""
        if _identity(self.path) != self._identity:
            return None
        aside = f"{self.path}.corrupt-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}-{threading.get_native_id()}"
        for suffix in ("-wal", "-shm", ""):  # the file last: a worker that opens a new one would delete an old -wal
            with contextlib.suppress(FileNotFoundError):
                os.rename(self.path + suffix, aside + suffix)
        return aside


def _transaction(path: str, begin: str, function: Callable[[SqliteConnection], _T], connection: SqliteConnection) -> _T:
    connection.execute(begin)
    try:
        check_version(path, connection.execute("PRAGMA user_version").fetchone()[0])  # a newer worker may migrate
        result = function(connection)
        connection.execute("COMMIT")
    except BaseException as error:
        if connection.in_transaction:  # a full disk has rolled it back already
            connection.execute("ROLLBACK")
        if not isinstance(error, sqlite3.OperationalError) or not str(error).startswith(_NO_TEXT):
            raise
        if connection.text_factory is _decode:
            raise
        connection.text_factory = _decode
        return _transaction(path, begin, function, connection)
    return result


_NO_TEXT = "Could not decode to UTF-8"
"""Beginning of the driver's error for bytes that are no text, which spoil every query that meets them."""


def _decode(text: bytes) -> str:
    """Text, with surrogates for bytes that are none; slower than the driver's, so only where it is needed."""
    return text.decode(errors="surrogateescape")


def stored_version(path: str) -> int | None:
    """The schema version in the file's header, without opening the database; None if there is no such file."""
    header = read_file(path, 100)
    if header is None:
        return None
    return int.from_bytes(header[60:64], "big") if header.startswith(b"SQLite format 3\0") else 0


def _is_corrupt(code: int) -> bool:
    """Whether a code means corruption; a WAL shorter than its index was removed while in use, and stays short."""
    return code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB} or code == sqlite3.SQLITE_IOERR_SHORT_READ


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _quoted(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _way_out(code: int) -> str:
    return {
        sqlite3.SQLITE_FULL: "; free some space on its disk",
        sqlite3.SQLITE_READONLY: "; make it and its directory writable for this user",
        sqlite3.SQLITE_CANTOPEN: "; check that its directory exists, and that descriptors are left",
    }.get(code & 0xFF, "")
