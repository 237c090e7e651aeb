"""Connections to the server: how they are opened, what they say when they fail, and that a fork leaves them alone.

A session that only one process may use is only safe if no child keeps its socket open: a leader's lock would outlive
it (docs/pitfalls.md#1). In a forked child each socket is therefore replaced by ``/dev/null``: the driver can neither
use it nor say goodbye on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import weakref
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import errors
from psycopg.adapt import AdaptersMap
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import StrDumperUnknown

from election.core.errors import ConfigurationError, LedgerVersionError

CONNECT_TIMEOUT = 5
"""Seconds in which a server has to answer who knocks, unless the URL has another ``connect_timeout``."""

ITSELF = "SELECT pid, backend_start FROM pg_stat_get_activity(pg_backend_pid())"
"""The server's process for a session, and since when it is: no other session ever has both."""

GONE_AFTER = 10
"""Seconds without any answer of the server's host after which this side of a connection gives up."""


def driver_options(url: str) -> dict[str, Any]:
    """What the driver is told beside the URL, which comes first."""
    try:
        given = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.Error as error:
        raise ConfigurationError(f"the pool's URL makes no sense to the driver: {describe_error(error)}") from None
    ours = {
        "application_name": "election",
        "client_encoding": "utf8",
        "connect_timeout": CONNECT_TIMEOUT,
        "keepalives_idle": GONE_AFTER // 2,
        "keepalives_interval": 1,
        "keepalives_count": GONE_AFTER // 2,
        "tcp_user_timeout": GONE_AFTER * 1000,
        "target_session_attrs": "read-write",  # of several hosts the one that is no standby
    }
    return {name: value for name, value in ours.items() if name not in given}


class _Text(StrDumperUnknown):
    """PostgreSQL's text has no NUL; what a job has raised may have one."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}"))


class _AsyncConnection(psycopg.AsyncConnection[Any]):
    """Waits until there is something to read, and does not look up in between (P7)."""

    async def wait(self, gen: Any, interval: float = 3600.0, *more: Any, **options: Any) -> Any:
        return await super().wait(gen, interval, *more, **options)


def connect(url: str, settings: str = "SELECT 1") -> psycopg.Connection[Any]:
    """A connection with ``settings``, statements without parameters. Blocks. Raises ``psycopg.Error``."""
    connection = psycopg.connect(url, autocommit=True, **driver_options(url))
    return _begun(connection, settings)


def _begun(connection: psycopg.Connection[Any], settings: str) -> psycopg.Connection[Any]:
    _open.add(connection)
    _adapt(connection.adapters)
    try:
        connection.execute(settings)
    except BaseException:
        connection.close()
        raise
    return connection


async def connect_async(url: str, settings: str) -> psycopg.AsyncConnection[Any]:
    """The same on the event loop."""
    connection = await _AsyncConnection.connect(url, autocommit=True, **driver_options(url))
    _open.add(connection)
    _adapt(connection.adapters)
    try:
        await connection.execute(settings)
    except BaseException:
        hang_up(connection)
        raise
    return connection


def settings(schema: str, **more: str | int) -> str:
    """The statements that make a session ours: the tables are found in ``schema``, and nothing limits it but us."""
    wanted: dict[str, str | int] = {
        "search_path": f'"{schema}", pg_temp',
        "statement_timeout": 0,
        "lock_timeout": 0,
        **more,
    }
    return "; ".join(f"SET {name} TO {value}" for name, value in wanted.items())


def hang_up(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    """End a session from any thread, whatever it waits for; whoever waits is told that it is closed."""
    with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)


async def ask(
    connection: psycopg.AsyncConnection[Any], statement: str, parameters: Sequence[Any] = (), *, within: float
) -> list[tuple[Any, ...]]:
    """The rows of the last of some statements. A session that does not answer within so many seconds is ended.

    Whoever is cancelled meanwhile leaves the statement to itself: to cancel it would take the server's answer.
    Raises ``psycopg.Error``.
    """

    async def execute() -> list[tuple[Any, ...]]:
        cursor = await connection.execute(statement, parameters or None)
        while cursor.nextset():
            pass
        return await cursor.fetchall() if cursor.description else []

    answer = asyncio.create_task(execute())
    timer = asyncio.get_running_loop().call_later(within, hang_up, connection)
    answer.add_done_callback(lambda _: timer.cancel())
    answer.add_done_callback(noticed)
    return await asyncio.shield(answer)


def noticed(task: asyncio.Task[Any]) -> None:
    """For a task whose end may be nobody's concern any more."""
    if not task.cancelled():
        task.exception()


def _adapt(adapters: AdaptersMap) -> None:
    adapters.register_dumper(int, Int8Dumper)  # or the size of a value would decide the type of an expression
    adapters.register_dumper(str, _Text)


_open: weakref.WeakSet[Any] = weakref.WeakSet()
"""The connections of this process."""


_ears: set[int] = set()
"""Further descriptors of their sockets."""


def open_ear(connection: psycopg.AsyncConnection[Any]) -> int:
    """A descriptor of its own for the connection's socket: the driver watches its one in its own way."""
    ear = os.dup(connection.fileno())
    _ears.add(ear)
    return ear


def close_ear(ear: int) -> None:
    _ears.discard(ear)
    os.close(ear)


def _let_go() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for connection in list(_open):
        with contextlib.suppress(OSError, psycopg.Error):
            os.dup2(nowhere, connection.fileno(), inheritable=False)
    for ear in _ears:
        os.dup2(nowhere, ear, inheritable=False)
    os.close(nowhere)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def describe_error(error: Exception) -> str:
    """What the driver says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def way_out(error: Exception) -> str:
    """What to do about it, if that is known."""
    for kind, words in _WAYS_OUT.items():
        if isinstance(error, kind):
            return words
    return ""


_WAYS_OUT: dict[type[Exception], str] = {
    errors.DiskFull: "; free some space on the server's disk",
    errors.ReadOnlySqlTransaction: "; name the server that is no standby",
    errors.TooManyConnections: "; raise max_connections, or use fewer workers",
    errors.LockNotAvailable: "; another session has kept it locked",
    errors.IdleInTransactionSessionTimeout: "; this process stood still in the middle of it",
    errors.InsufficientPrivilege: "; docs/engines/postgresql.md says what the role needs",
}

_WRONG = ("28", "3D", "42501", "3F", "0A")
"""The codes of what will not mend itself: no such user, password or database; not allowed; not there."""


def is_wrong(error: Exception) -> bool:
    """Whether an error of the driver means a wrong configuration, and no passing fault."""
    if isinstance(error, ConfigurationError | LedgerVersionError):
        return True
    code = getattr(error, "sqlstate", None)
    if code is None:  # while connecting, the driver gives the server's words only
        return any(text in str(error) for text in _WRONG_WORDS)
    return bool(code.startswith(_WRONG))


_WRONG_WORDS = ("authentication failed", "does not exist", "no password supplied", "no pg_hba.conf entry")
