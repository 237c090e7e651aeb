"""Preflight checks of a server: its version, separate sessions, the role's rights; and the tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg

from election.core.errors import ConfigurationError, SeatError
from election.core.events import named
from election.core.logs import log
from election.engines.sql.schema import TABLES

from .address import Address
from .connection import ANSWER_TIMEOUT_S, connect, describe_error, is_wrong, settings, time_limit, way_out
from .schema import migrate, stored_version

MIN_VERSION = 150000
"""Oldest server that is accepted."""

TIMEOUT_S = 10.0
"""Time after which the checks are given up."""

POOLING_TRIES = 5
"""Transactions that detect a pooler which gives each of them another session."""

_POOLED = (
    "a pooler gives each transaction another session (PgBouncer with pool_mode = transaction or statement?), so that"
    " other clients would share the session that holds the lock; connect to the server itself, or use pool_mode ="
    " session"
)


class Preflight:
    """Checks of one pool's server, by blocking calls that take seconds at most."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self.ready = False

    def check(self) -> None:
        """Raise ``ConfigurationError`` if the server cannot hold a pool; log a server that cannot be reached."""
        try:
            self.prepare()
        except SeatError as error:
            log.warning("the pool is not ready: %s", error, extra=named("pool_not_ready"))

    def prepare(self) -> None:
        """Check the server, once in a process, and create missing tables.

        Raises:
            ConfigurationError: A condition that needs an operator.
            SeatError: A condition that may pass.
        """
        if self.ready:
            return
        with self._connected() as connection:
            self.check_server(connection)
            connection.execute(
                settings(self._address.schema, lock_timeout=5000)
            )  # not before: a pooler would pass them on to others
            migrate(connection, self._address)
            self._check_rights(connection)
        self.ready = True

    def check_version(self) -> None:
        """Raise ``LedgerVersionError`` if this code cannot read the tables; ignore an unreachable server."""
        try:
            with self._connected() as connection:
                stored_version(connection, self._address)
        except SeatError:
            pass

    def reset(self) -> None:
        """Check again at the next use: a server that came back may be another."""
        self.ready = False

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        try:
            with closing(connect(self._address.url)) as connection, time_limit(connection, TIMEOUT_S):
                yield connection
        except psycopg.Error as error:
            text = f"{self._address.pool}: {describe_error(error)}{way_out(error)}"
            raise (ConfigurationError if is_wrong(error) else SeatError)(text) from error

    def check_server(self, connection: psycopg.Connection[Any]) -> None:
        if connection.info.server_version < MIN_VERSION:
            raise ConfigurationError(
                f"{self._address.pool}: PostgreSQL {connection.info.server_version // 10000} is too old;"
                f" use {MIN_VERSION // 10000} or newer"
            )
        found = connection.execute("SHOW server_encoding").fetchone()
        if found is None or found[0] != "UTF8":
            raise ConfigurationError(
                f"{self._address.pool}: the database's encoding is {found and found[0]}, which cannot hold every text;"
                " create one with ENCODING 'UTF8'"
            )
        self._check_pooling(connection)

    def _check_pooling(self, connection: psycopg.Connection[Any]) -> None:
        """Raise ``ConfigurationError`` if settings and locks of one transaction are not there in the next."""
        with closing(connect(self._address.url)) as other, time_limit(other, ANSWER_TIMEOUT_S):
            own = _one(connection, "SELECT pg_backend_pid()")
            try:
                other.execute("BEGIN")
            except psycopg.Error as error:
                if "pooling mode" in str(error):  # PgBouncer's message for pool_mode = statement
                    raise ConfigurationError(f"{self._address.pool}: {_POOLED}") from error
                raise
            taken = _one(other, "SELECT pg_backend_pid()")
            if taken == own:  # until now it was our own session
                raise ConfigurationError(f"{self._address.pool}: {_POOLED}")
            other.execute("ROLLBACK")
            if {_one(connection, "SELECT pg_backend_pid()") for _ in range(POOLING_TRIES)} != {own}:
                raise ConfigurationError(f"{self._address.pool}: {_POOLED}")

    def _check_rights(self, connection: psycopg.Connection[Any]) -> None:
        lacking = connection.execute(
            "SELECT string_agg(name, ', ') FROM unnest(%s::text[]) AS name"
            " WHERE NOT (has_table_privilege(name, 'SELECT') AND has_table_privilege(name, 'INSERT')"
            " AND has_table_privilege(name, 'UPDATE') AND has_table_privilege(name, 'DELETE'))",
            ([f'"{self._address.schema}".{name}' for name in _TABLES],),
        ).fetchone()
        if lacking is not None and lacking[0] is not None:
            raise ConfigurationError(
                f"{self._address.pool}: this role may not read and write {lacking[0]};"
                f' GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "{self._address.schema}" to it'
            )


_TABLES = ("meta", "leader", "workers", *(table.name for table in TABLES))


def _one(connection: psycopg.Connection[Any], query: str) -> Any:
    """First value of a query, never as a prepared statement, which a pooler may run in another session."""
    found = connection.execute(query, prepare=False).fetchone()
    return None if found is None else found[0]
