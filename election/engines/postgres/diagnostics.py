"""Diagnostics of the PostgreSQL engine for ``doctor``: server, tables, leader record, lock holder. Read only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg

from election.core.checks import CheckResult, Severity
from election.core.errors import ConfigurationError, LedgerVersionError
from election.core.term import Standing

from .address import Address
from .connection import connect, describe_error, is_wrong, settings, way_out
from .monitor import RECORD
from .preflight import Preflight
from .schema import VERSION, stored_version

SILENT_AFTER_S = 5.0
"""Seconds without a heartbeat after which a leader is reported as silent, independent of the pool's settings."""

_HOLDER = (
    "SELECT pid, host(client_addr), application_name FROM pg_locks LEFT JOIN pg_stat_activity USING (pid)"
    " WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND database ="
    " (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND ((classid::bigint << 32) | objid::bigint) = %s"
)


def examine(address: Address) -> Iterator[CheckResult]:
    """All check results, the server first."""
    try:
        with connect(address.url, settings(address.schema)) as connection:
            yield from _check(connection, address)
    except psycopg.Error as error:
        advice = way_out(error).removeprefix("; ") or (
            None if is_wrong(error) else "nobody leads until it can be reached"
        )
        yield CheckResult(Severity.WRONG, f"{address.pool}: {describe_error(error)}", advice)


def _check(connection: psycopg.Connection[Any], address: Address) -> Iterator[CheckResult]:
    version = connection.info.server_version
    yield CheckResult(Severity.GOOD, f"PostgreSQL {version // 10000}.{version % 10000} answers")
    try:
        Preflight(address).check_server(connection)
        found = stored_version(connection, address)
    except (ConfigurationError, LedgerVersionError) as error:
        yield CheckResult(Severity.WRONG, str(error))
        return
    if found == 0:
        yield CheckResult(
            Severity.WARNING, f"there is no pool in schema {address.schema}", "the first worker creates it"
        )
        return
    yield CheckResult(Severity.GOOD, f"schema {address.schema} has version {found} of {VERSION}")
    yield from _leader(connection, address)


def _leader(connection: psycopg.Connection[Any], address: Address) -> Iterator[CheckResult]:
    row = connection.execute(
        "SELECT record, extract(epoch FROM clock_timestamp() - beaten_at)::double precision, backend FROM leader"
    ).fetchone()
    holder = connection.execute(_HOLDER, (address.key("seat"),)).fetchone()
    if row is None:
        yield CheckResult(Severity.WARNING, "nobody has led yet")
        return
    record = RECORD.validate_json(row[0])
    who = f"pid {record.holder.pid} on {record.holder.host}, term {record.term}"
    if record.standing is not Standing.LEADING:
        yield CheckResult(
            Severity.WARNING if holder is None else Severity.GOOD, f"the last leader was {who}: {record.standing}"
        )
    elif row[1] > SILENT_AFTER_S:
        text = f"the last heartbeat of the leader ({who}) was {row[1]:.0f} s ago"
        yield CheckResult(Severity.WARNING, text, "its event loop may be blocked: see its log")
    else:
        yield CheckResult(Severity.GOOD, f"{who}, leads")
    if holder is None:
        yield CheckResult(Severity.WARNING, "nobody holds the advisory lock", "is any worker running?")
    elif record.standing is Standing.LEADING and holder[0] != row[2]:
        text = f"the advisory lock is held by session {holder[0]} from {holder[1]}, not by the leader's, {row[2]}"
        yield CheckResult(Severity.WARNING, text, f"if it stays so, end it: SELECT pg_terminate_backend({holder[0]})")
    else:
        yield CheckResult(Severity.GOOD, f"the advisory lock is held by session {holder[0]} from {holder[1]}")
