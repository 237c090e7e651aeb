"""Connections to the server: options, errors, and protection against forks.

A session that only one process may use is only safe if no child keeps its socket open: a leader's lock would outlive
it (docs/pitfalls.md#1). In a forked child each socket is therefore replaced by ``/dev/null``: the driver can neither
use it nor terminate the session on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
from psycopg import errors
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import StrDumperUnknown

from election.core.errors import ConfigurationError, LedgerVersionError
from election.core.threads import resolve

_ROLE_DEFAULTS = {
    "statement_timeout": 0,
    "lock_timeout": 0,
    "transaction_timeout": 0,  # from PostgreSQL 17 on; a follower waits for the lock in a transaction
    "idle_session_timeout": 0,
    "idle_in_transaction_session_timeout": 0,
    "client_connection_check_interval": 1000,  # or a client that is gone keeps the seat while it waits for a lock
    "default_transaction_isolation": "read committed",  # claims depend on the commits of others
    "default_transaction_deferrable": "off",
    "DateStyle": "ISO, MDY",  # psycopg reads no other style
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "standard_conforming_strings": "on",  # the statements have backslashes in plain literals
    "transform_null_equals": "off",
    "extra_float_digits": 1,  # or numbers come back rounded
}
"""Settings that our sessions need, in place of those of the role or the database."""

CONNECT_TIMEOUT_S = 5
"""Timeout of a connection, unless the URL has another ``connect_timeout``."""

ANSWER_TIMEOUT_S = 5.0
"""Seconds in which the server has to answer a statement that does not wait for the lock."""

SELECT_SESSION = "SELECT pid, backend_start FROM pg_stat_get_activity(pg_backend_pid())"
"""Server process of this session, and its start: together unique."""

NoAnswer = errors.ConnectionFailure
"""Error of a statement that was not answered in time, so that its session was shut down."""

NoFirstAnswer = errors.SqlclientUnableToEstablishSqlconnection
"""Error of a session that the server has opened, and whose first statement it has not answered."""

PEER_TIMEOUT_S = 10
"""Time without any answer of the server's host after which this side closes a connection."""


def driver_options(url: str) -> dict[str, Any]:
    """Options of the driver beside those of the URL, which have priority."""
    try:
        given = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.Error as error:
        raise ConfigurationError(f"the driver cannot read the pool's URL: {describe_error(error)}") from None
    ours = {
        "application_name": "election",
        "client_encoding": "utf8",
        "connect_timeout": CONNECT_TIMEOUT_S,
        "keepalives_idle": PEER_TIMEOUT_S // 2,
        "keepalives_interval": 1,
        "keepalives_count": PEER_TIMEOUT_S // 2,
        "tcp_user_timeout": PEER_TIMEOUT_S * 1000,
        "target_session_attrs": "read-write",  # selects the host that is no standby
    }
    return {name: value for name, value in ours.items() if name not in given}


class _Text(StrDumperUnknown):
    """Dumps text without NUL, which PostgreSQL does not store and which an error of a job may contain."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}"))


class _AsyncConnection(psycopg.AsyncConnection[Any]):
    """Waits without a timeout until the socket is readable (P7)."""

    async def wait(self, gen: Any, interval: float = 3600.0, *more: Any, **options: Any) -> Any:
        return await super().wait(gen, interval, *more, **options)


def connect(url: str, settings: str = "SELECT 1") -> psycopg.Connection[Any]:
    """A connection with ``settings``, statements without parameters. Blocks. Raises ``psycopg.Error``.

    ``connect_timeout`` limits the login, for each host of the URL; ``ANSWER_TIMEOUT_S`` the settings.
    """
    connection = psycopg.connect(url, autocommit=True, **driver_options(url))
    return _begun(connection, settings)


def _begun(connection: psycopg.Connection[Any], settings: str) -> psycopg.Connection[Any]:
    _open.add(connection)
    _adapt(connection.adapters)
    try:
        with time_limit(connection, ANSWER_TIMEOUT_S):
            connection.execute(settings)
    except NoAnswer as error:
        connection.close()
        raise NoFirstAnswer(str(error)) from error
    except BaseException:
        connection.close()
        raise
    return connection


async def connect_async(url: str, settings: str) -> psycopg.AsyncConnection[Any]:
    """``connect`` on the event loop."""
    options = {**driver_options(url), **await _addresses(url)}
    connection = await _AsyncConnection.connect(url, autocommit=True, **options)
    _open.add(connection)
    _adapt(connection.adapters)
    try:
        await execute(connection, settings, within=ANSWER_TIMEOUT_S)
    except NoAnswer as error:
        raise NoFirstAnswer(str(error)) from error
    except BaseException:
        shutdown(connection)
        raise
    return connection


async def _addresses(url: str) -> dict[str, str]:
    """Resolved addresses as options: the driver would resolve names in the application's threads.

    Of several hosts, those without an address are left out. Raises ``OperationalError`` if no host has one.
    """
    parameters = conninfo_to_dict(url)
    hosts, ports = (
        str(parameters.get(name) or os.environ.get(variable) or default).split(",")
        for name, variable, default in (("host", "PGHOST", ""), ("port", "PGPORT", "5432"))
    )
    if parameters.get("hostaddr") or os.environ.get("PGHOSTADDR") or not all(hosts):
        return {}
    ports = [port or "5432" for port in (ports * len(hosts) if len(ports) == 1 else ports)]
    if len(ports) != len(hosts) or any(host.startswith("/") for host in hosts):
        return {}
    found: list[tuple[str, str, str]] = []
    failed: dict[str, OSError] = {}
    for host, port in zip(hosts, ports, strict=True):
        try:
            found += [(host, port, address) for address in await resolve(host, port)]
        except OSError as error:
            failed[host] = error
    if not found:
        raise psycopg.OperationalError("; ".join(f"{host}: {error.strerror}" for host, error in failed.items()))
    names, numbers, addresses = (",".join(each) for each in zip(*found, strict=True))
    return {"host": names, "port": numbers, "hostaddr": addresses}


def settings(schema: str, **more: str | int) -> str:
    """Statements that set up a session: search path ``schema``, no limits but ``more``, not even the role's."""
    wanted: dict[str, str | int] = {"search_path": f'"{schema}", pg_temp', **more}
    values = ", ".join(f"('{name}', '{value}')" for name, value in {**_ROLE_DEFAULTS, **wanted}.items())
    return (  # settings that this version of the server does not have are left out, and one that not every system has
        f"SELECT set_config(wanted.name, wanted.value, false) FROM (VALUES {values}) AS wanted (name, value)"
        " JOIN pg_catalog.pg_settings USING (name)"
        " WHERE name <> 'client_connection_check_interval' OR version() LIKE '%linux%'"
    )


def shutdown(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    """Shut the socket down from any thread; a pending statement fails."""
    with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def time_limit(connection: psycopg.Connection[Any], seconds: float) -> Iterator[None]:
    """Shut the connection down, from another thread, when the scope lasts too long.

    Raises:
        NoAnswer: A statement failed because of that.
        psycopg.OperationalError: No thread can be started.
    """
    is_over = threading.Event()

    def give_up() -> None:
        is_over.set()
        shutdown(connection)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    try:
        timer.start()
    except RuntimeError as error:
        raise psycopg.OperationalError(f"the time limit of a session cannot be set: {error}") from error
    try:
        yield
    except psycopg.Error as error:
        if is_over.is_set():
            raise NoAnswer(_not_answered(seconds)) from error
        raise
    finally:
        timer.cancel()
        if is_over.is_set():
            timer.join()  # or it might shut down another file that has the number of this socket by then


async def execute(
    connection: psycopg.AsyncConnection[Any], statement: str, parameters: Sequence[Any] = (), *, within: float
) -> list[tuple[Any, ...]]:
    """Rows of the last statement in ``statement``.

    A cancelled caller leaves the statement running: to cancel it would need the server's answer.

    Args:
        connection: Session to use.
        statement: One or more statements.
        parameters: Parameters of the statement.
        within: Seconds after which a session that does not answer is shut down.

    Raises:
        NoAnswer: The session was shut down.
        psycopg.Error: The session or the statement failed.
    """
    is_over = False

    def give_up() -> None:
        nonlocal is_over
        is_over = True
        shutdown(connection)

    async def run() -> list[tuple[Any, ...]]:
        try:
            cursor = await connection.execute(statement, parameters or None)
            while cursor.nextset():
                pass
            return await cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            if is_over:
                raise NoAnswer(_not_answered(within)) from error
            raise

    answer = asyncio.create_task(run())
    timer = asyncio.get_running_loop().call_later(within, give_up)
    answer.add_done_callback(lambda _: timer.cancel())
    answer.add_done_callback(consume_exception)
    return await asyncio.shield(answer)


def _not_answered(seconds: float) -> str:
    return f"the server has not answered for {seconds:.3g} s"


def consume_exception(task: asyncio.Task[Any]) -> None:
    """Done-callback of a task whose result may not be awaited any more."""
    if not task.cancelled():
        task.exception()


def _adapt(adapters: AdaptersMap) -> None:
    adapters.register_dumper(int, Int8Dumper)  # or the size of a value would decide the type of an expression
    adapters.register_dumper(str, _Text)


_open: weakref.WeakSet[Any] = weakref.WeakSet()
"""Connections of this process."""

_watched: set[int] = set()
"""Descriptors of the ``WatchedSocket`` objects of this process."""


class WatchedSocket:
    """Duplicate of a connection's socket for ``add_reader``: the driver registers and removes its own descriptor."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], callback: Callable[[], object]) -> None:
        self._callback = callback
        self._descriptor = os.dup(connection.fileno())
        _watched.add(self._descriptor)
        self.resume()

    def resume(self) -> None:
        """Call the callback whenever the socket is readable."""
        if self._descriptor >= 0:
            asyncio.get_running_loop().add_reader(self._descriptor, self._callback)

    def pause(self) -> None:
        """Stop calling the callback."""
        asyncio.get_running_loop().remove_reader(self._descriptor)

    def close(self) -> None:
        """Stop calling the callback, and close the descriptor."""
        self.pause()
        _watched.discard(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1


def _close_in_child() -> None:
    """Replace each socket by ``/dev/null`` in a forked child, or close it where that cannot be opened."""
    inherited = set(_watched)
    for connection in list(_open):
        with contextlib.suppress(psycopg.Error):
            inherited.add(connection.fileno())
    nowhere = -1
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
    except OSError:  # no free descriptor, or no /dev in a chroot
        for descriptor in inherited:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        with contextlib.suppress(OSError):
            nowhere = socket.socket().detach()  # keeps their numbers from other files, on which ours might be used
    if nowhere < 0:
        return
    for descriptor in inherited - {nowhere}:
        with contextlib.suppress(OSError):
            os.dup2(nowhere, descriptor, inheritable=False)
    if nowhere not in inherited:
        os.close(nowhere)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


def describe_error(error: Exception) -> str:
    """Message of the driver in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def way_out(error: Exception) -> str:
    """Advice for the error, as the end of a message; empty if there is none."""
    for kind, advice in _WAYS_OUT.items():
        if isinstance(error, kind):
            return advice
    return ""


_WAYS_OUT: dict[type[Exception], str] = {
    NoFirstAnswer: "; behind a pooler with pool_mode = session its pool may be used up: docs/engines/postgresql.md has"
    " the pool_size that it needs",
    errors.DiskFull: "; free some space on the server's disk",
    errors.ReadOnlySqlTransaction: "; name the primary server, not a standby",
    errors.TooManyConnections: "; raise max_connections, or use fewer workers",
    errors.LockNotAvailable: "; another session has kept it locked",
    errors.IdleInTransactionSessionTimeout: "; this process was stopped or blocked during the transaction",
    errors.InvalidSqlStatementName: "; a pooler that gives each transaction another session? Use pool_mode = session",
    errors.InsufficientPrivilege: "; docs/engines/postgresql.md lists what the role needs",
}

_WRONG = ("28", "3D", "42501", "3F", "0A")
"""SQLSTATE prefixes of configuration errors: wrong user, password or database; missing rights; missing objects."""


def is_wrong(error: Exception) -> bool:
    """Whether an error means a wrong configuration, and no transient fault."""
    if isinstance(error, ConfigurationError | LedgerVersionError):
        return True
    code = getattr(error, "sqlstate", None)
    if code is None:  # while connecting, the driver has the server's message only
        return any(text in str(error) for text in _WRONG_WORDS)
    return bool(code.startswith(_WRONG))


_WRONG_WORDS = ("authentication failed", "does not exist", "no password supplied", "no pg_hba.conf entry")
