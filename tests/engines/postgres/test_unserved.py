"""Sessions that a server opens and does not serve: each is given up, and the reason is reported (P8)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from election.core.backend import SeatTiming, Worker
from election.core.clock import SystemClock
from election.core.errors import LedgerError, SeatError
from election.core.process import current_process
from election.engines.postgres import connection as sessions
from election.engines.postgres import database as databases
from election.engines.postgres import preflight as preflights
from election.engines.postgres.address import parse
from election.engines.postgres.connection import NoFirstAnswer, connect, connect_async, way_out
from election.engines.postgres.database import PostgresDatabase
from election.engines.postgres.monitor import PoolMonitor
from election.engines.postgres.preflight import Preflight
from tests.support.waiting import until_async

BOUND_S = 30.0
"""Longer than a busy machine stands still, and far shorter than for ever."""

SHORT_S = 0.3
"""Limit of an answer that never comes."""

NOT_SERVED = r"has not answered for 0\.3 s; behind a pooler .*pool_size"


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


class Mute:
    """Server that lets everybody in at once, as a pooler does whose pool is used up, and answers few statements.

    Args:
        answers: Statements that are answered, each with a value.
    """

    def __init__(self, answers: dict[bytes, bytes]) -> None:
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._accepted: list[socket.socket] = []
        port = self._listener.getsockname()[1]
        self.url = f"postgresql://u@127.0.0.1:{port}/app?sslmode=disable&gssencmode=disable&connect_timeout=60"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in (self._listener, *self._accepted):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = self._listener.accept()
                self._accepted.append(accepted)
                threading.Thread(target=self._serve, args=[accepted], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client.makefile("rb") as received:
            (length,) = struct.unpack("!I", received.read(4))
            received.read(length - 4)
            known = {
                b"server_version": b"16.0", b"server_encoding": b"UTF8", b"client_encoding": b"UTF8",
                b"default_transaction_read_only": b"off", b"in_hot_standby": b"off",
            }  # fmt: skip
            told = b"".join(message(b"S", name + b"\0" + value + b"\0") for name, value in known.items())
            begun = message(b"R", struct.pack("!I", 0)) + told + message(b"K", struct.pack("!II", 1, 1))
            client.sendall(begun + message(b"Z", b"I"))
            while received.read(1):
                (length,) = struct.unpack("!I", received.read(4))
                value = self._answers.get(received.read(length - 4).rstrip(b"\0"))
                if value is not None:
                    column = b"it\0" + struct.pack("!IHIhih", 0, 0, 25, -1, -1, 0)
                    rows = message(b"T", struct.pack("!H", 1) + column)
                    rows += message(b"D", struct.pack("!HI", 1, len(value)) + value)
                    client.sendall(rows + message(b"C", b"SELECT 1\0") + message(b"Z", b"I"))


@pytest.fixture
def mute() -> Iterator[Callable[..., Mute]]:
    """Factory of such servers."""
    started: list[Mute] = []

    def start(**answers: bytes) -> Mute:
        started.append(Mute({statement.encode(): value for statement, value in answers.items()}))
        return started[-1]

    yield start
    for server in started:
        server.close()


def raised_by(blocking: Callable[[], object]) -> BaseException | None:
    """The error of a call that must end by itself."""
    raised: list[BaseException | None] = []

    def call() -> None:
        try:
            blocking()
        except BaseException as error:
            raised.append(error)
        else:
            raised.append(None)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(BOUND_S)
    assert raised, "it hangs"
    return raised[0]


def monitor_of(url: str) -> PoolMonitor:
    address = parse(url)
    timing = SeatTiming(heartbeat=0.5, safety_poll=0.1)
    return PoolMonitor(address, Preflight(address), timing=timing, clock=SystemClock(), own_session=lambda: 0)


def test_a_login_without_a_session_is_given_up(mute: Callable[..., Mute], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "ANSWER_TIMEOUT_S", SHORT_S)
    url = mute().url
    error = raised_by(lambda: connect(url))
    assert isinstance(error, NoFirstAnswer)
    assert "pool_size" in way_out(error)
    error = raised_by(Preflight(parse(url)).prepare)
    assert isinstance(error, SeatError)
    with pytest.raises(SeatError, match=NOT_SERVED):
        raise error


@pytest.mark.anyio
async def test_a_login_without_a_session_is_given_up_on_the_event_loop(
    mute: Callable[..., Mute], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "ANSWER_TIMEOUT_S", SHORT_S)
    async with asyncio.timeout(BOUND_S):
        with pytest.raises(NoFirstAnswer):
            await connect_async(mute().url, "SELECT 1")


@pytest.mark.anyio
async def test_p8_a_running_worker_says_that_its_session_is_not_served(
    mute: Callable[..., Mute], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "ANSWER_TIMEOUT_S", SHORT_S)
    monitor = monitor_of(mute().url)
    monitor._preflight.ready = True
    monitor.open(Worker(current_process(), datetime.now(UTC)))
    try:
        trouble = await until_async(lambda: monitor.trouble, timeout=BOUND_S, what="the monitor says why")
        assert "has not answered" in trouble
        assert "pool_size" in trouble
    finally:
        await monitor.close()


def test_the_second_session_of_the_check_is_given_up(
    mute: Callable[..., Mute], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets no answer to its ``BEGIN``."""
    monkeypatch.setattr(preflights, "ANSWER_TIMEOUT_S", SHORT_S)
    server = mute(**{"SELECT 1": b"1", "SHOW server_encoding": b"UTF8", "SELECT pg_backend_pid()": b"1"})
    error = raised_by(Preflight(parse(server.url)).prepare)
    assert isinstance(error, SeatError)
    assert "has not answered" in str(error)


@pytest.mark.anyio
async def test_a_transaction_that_is_given_up_while_its_session_is_opened_ends(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = parse(url)
    database = PostgresDatabase(address, preflight=Preflight(address))
    try:
        await database.write(lambda connection: None)

        def late(*arguments: Any) -> psycopg.Connection[Any]:
            opened = connect(*arguments)
            database.give_up()
            return opened

        await database.close()
        with monkeypatch.context() as patched:
            patched.setattr(databases, "connect", late)
            with pytest.raises(LedgerError):
                await database.write(lambda connection: None)
        await database.write(lambda connection: None)
    finally:
        await database.close()


def test_without_a_thread_for_the_limit_the_session_is_not_opened(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is one of the driver, which every caller expects."""

    def none(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Timer, "start", none)
        with pytest.raises(psycopg.OperationalError, match="can't start new thread"):
            connect(parse(url).url)
