"""The ledger's database on a PostgreSQL server: one session in one thread, with serialized writes.

Each write first locks the only row of ``meta``. So the writes of a pool are serialized, as in SQLite; each reads all
earlier commits, and a term that is over is refused for good (P3).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg import errors

from election.core.errors import LedgerError
from election.engines.sql.connection_thread import ThreadedDatabase
from election.engines.sql.database import Dialect, NamedRow, rows_with
from election.engines.sql.schema import NUMBERED

from .address import Address
from .connection import connect, describe_error, settings, shutdown, time_limit, way_out
from .json_text import FIRST_TERM, TAGS
from .lockers import LOCKER, describe_locker
from .preflight import Preflight
from .schema import check_version, migrate, stored_version

_T = TypeVar("_T")

BUSY_TIMEOUT_S = 5
"""Seconds that one writer waits for another, and after which the server ends one that is idle."""

TRANSACTION_TIMEOUT_S = 15.0
"""Seconds after which a worker's transaction is given up: the server is gone, but the connection is still open."""

DIALECT = Dialect(
    greatest="greatest",
    first_term=f"coalesce(substring(attempts from '{FIRST_TERM}')::bigint, term)",
    tags=f"(SELECT json_array_elements_text(substring(jobs.info from '{TAGS}')::json))",
    version=("SELECT version - coalesce(nullif(current_setting('election.written', true), ''), '0')::bigint FROM meta"),
    place="here()",
    schema="current_schema()",
    after_change=("SELECT note_change()",),
    after_copy=tuple(
        f"SELECT setval(pg_get_serial_sequence('{name}', '{key}'), max({key})) FROM {name}"
        for name, key in NUMBERED.items()
    ),
)


def named_rows(cursor: psycopg.Cursor[Any]) -> Callable[[Sequence[Any]], NamedRow]:
    """A row factory for the driver."""
    return rows_with(*(column.name for column in cursor.description or ()))


class PostgresConnection:
    """Connection that runs the ledger's statements, with the ledger's own parameter marks."""

    dialect = DIALECT

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        connection.row_factory = named_rows
        self.raw = connection

    def execute(self, statement: str, parameters: Sequence[Any] = (), /) -> psycopg.Cursor[Any]:
        if not parameters:
            return self.raw.execute(statement)
        return self.raw.execute(_translated(statement), parameters)


def _second_answer(cursor: psycopg.Cursor[Any]) -> int:
    cursor.nextset()
    row = cursor.fetchone()
    return 0 if row is None else int(row[0])


@functools.lru_cache(maxsize=512)
def _translated(statement: str) -> str:
    return statement.replace("%", "%%").replace("?", "%s")


class PostgresDatabase(ThreadedDatabase[PostgresConnection]):
    """A session, opened when first used and again when it is lost.

    durable: whether a commit waits for synchronous standbys as well; it always waits for the server's own disk, since
        servers are restarted more often than hosts lose their power.
    look_only: never create or change anything. timeout_s: seconds that a transaction may take.
    """

    def __init__(
        self,
        address: Address,
        *,
        durable: bool = False,
        look_only: bool = False,
        timeout_s: float = TRANSACTION_TIMEOUT_S,
        preflight: Preflight,
    ) -> None:
        super().__init__()
        self._address = address
        self._preflight = preflight
        self._look_only = look_only
        self._timeout_s = timeout_s
        self._given_up = False
        self._settings = settings(
            address.schema,
            synchronous_commit="on" if durable else "local",
            lock_timeout=BUSY_TIMEOUT_S * 1000,
            idle_in_transaction_session_timeout=BUSY_TIMEOUT_S * 1000,
            default_transaction_read_only="on" if look_only else "off",
        )

    def _read(self, function: Callable[[Any], _T]) -> _T:
        return self._transaction(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT schema_version FROM meta", function
        )

    def _write(self, function: Callable[[Any], _T]) -> _T:
        return self._transaction("BEGIN; SELECT schema_version FROM meta FOR UPDATE", function)

    def _write_urgently(self, function: Callable[[Any], _T]) -> _T:
        return self._transaction("BEGIN; SELECT schema_version FROM meta", function)  # locks nothing

    def _transaction(self, begin: str, function: Callable[[Any], _T]) -> _T:
        self._given_up = False
        try:
            connection, version = self._begun(begin)
            try:
                check_version(self._address, version)  # a newer worker may have migrated the tables meanwhile
                result = function(connection)
                connection.execute("COMMIT")
            except psycopg.Error:
                raise
            except BaseException:
                connection.execute("ROLLBACK")
                raise
        except psycopg.Error as error:
            advice = self._locker() if isinstance(error, errors.LockNotAvailable) else ""
            self._disconnect()
            raise LedgerError(f"{self._address.pool}: {describe_error(error)}{advice or way_out(error)}") from error
        return result

    def _locker(self) -> str:
        """Advice about the session that keeps a table of the pool locked."""
        with contextlib.suppress(psycopg.Error):
            if self._connection is not None:
                self._connection.execute("ROLLBACK")
                return describe_locker(self._connection.raw.execute(LOCKER).fetchall())
        return ""

    def _begun(self, begin: str) -> tuple[PostgresConnection, int]:
        """A connection within a transaction, and the version of the tables, which the second statement of ``begin``
        reads. A connection that was lost while idle is opened anew."""
        if self._connection is not None:
            try:
                version = _second_answer(self._connection.execute(begin))
            except psycopg.OperationalError:
                if self._given_up or not self._connection.raw.closed:
                    raise
                self._disconnect()
            else:
                return self._connection, version
        self._connection = self._opened()
        if self._given_up:  # before there was a connection to shut down
            shutdown(self._connection.raw)
        return self._connection, _second_answer(self._connection.execute(begin))

    def _opened(self) -> PostgresConnection:
        raw = connect(self._address.url, self._settings)
        try:
            if self._look_only or not self._preflight.ready:
                with time_limit(raw, self._timeout_s):
                    self._look_at_tables(raw)
        except BaseException:
            raw.close()
            raise
        return PostgresConnection(raw)

    def _look_at_tables(self, raw: psycopg.Connection[Any]) -> None:
        if not self._look_only:
            migrate(raw, self._address)
        elif stored_version(raw, self._address) == 0:
            raise LedgerError(f"{self._address.pool}: there is no pool")

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.raw.close()

    async def read(self, function: Callable[[Any], _T]) -> _T:
        with self._time_limit():
            return await super().read(function)

    async def write_urgently(self, function: Callable[[Any], _T]) -> _T:
        with self._time_limit():
            return await super().write_urgently(function)

    def written(self, function: Callable[[Any], _T]) -> asyncio.Future[_T]:
        timer = self._timer()
        found = super().written(function)
        found.add_done_callback(lambda _: timer.cancel())
        return found

    @contextlib.contextmanager
    def _time_limit(self) -> Iterator[None]:
        """Give the transaction up when the scope lasts too long."""
        timer = self._timer()
        try:
            yield
        finally:
            timer.cancel()

    def _timer(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self._timeout_s, self.give_up)

    def give_up(self) -> None:
        """End the transaction in progress, from any thread, even if the server does not answer."""
        self._given_up = True
        if self._connection is not None:
            shutdown(self._connection.raw)
