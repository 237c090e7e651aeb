"""Sessions in trouble: no thread for a new one, a cancelled test of the seat's, a fork without descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from election.core.backend import SeatTiming, Worker
from election.core.clock import SystemClock
from election.core.process import current_process
from election.engines.postgres import connection as sessions
from election.engines.postgres import monitor as monitors
from election.engines.postgres.address import parse
from election.engines.postgres.advisory_lock import AdvisoryLock
from election.engines.postgres.connection import connect
from election.engines.postgres.monitor import PoolMonitor
from election.engines.postgres.preflight import Preflight
from tests.support.logs import logged
from tests.support.postgres_server import RunningPostgres
from tests.support.waiting import until_async

BOUND_S = 30.0
"""Longer than a busy machine stands still, and far shorter than for ever."""


def monitor_of(url: str) -> PoolMonitor:
    address = parse(url)
    timing = SeatTiming(heartbeat=0.5, safety_poll=0.1)
    return PoolMonitor(address, Preflight(address), timing=timing, clock=SystemClock(), own_session=lambda: 0)


@pytest.mark.anyio
async def test_p8_a_monitor_without_a_thread_goes_on_when_there_is_one(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(function: Callable[[], object]) -> asyncio.Future[Any]:
        raise RuntimeError("can't start new thread")

    monitor = monitor_of(url)
    with caplog.at_level(logging.ERROR), monkeypatch.context() as patched:
        patched.setattr(monitors, "run_in_thread", none)
        monitor.open(Worker(current_process(), datetime.now(UTC)))
        await until_async(lambda: len(logged(caplog, "monitor_crashed")) > 1, timeout=BOUND_S, what="it tries again")
        assert "can't start new thread" in str(monitor.trouble)
    try:
        await until_async(lambda: monitor.refreshed_at > 0, timeout=BOUND_S, what="the monitor reads the pool")
        assert monitor.trouble is None
    finally:
        await monitor.close()


@pytest.mark.anyio
async def test_a_cancelled_test_of_the_session_does_not_make_it_deaf(
    url: str, postgres_server: RunningPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next notification is heard at once, not at a heartbeat."""
    address = parse(url)
    lock = AdvisoryLock(address, 5.0, SeatTiming(heartbeat=0.5, safety_poll=1.0))
    notify = f'NOTIFY "{address.ledger_channel}"'
    pid_of = "SELECT pid FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(3600)' AND pid = "
    try:
        assert await lock.try_acquire()
        await lock.listen()
        execute, pid = lock.execute, lock.session[0]

        async def slow(statement: str, *more: Any, **options: Any) -> list[tuple[Any, ...]]:
            assert statement == "SELECT 1"
            return await execute("SELECT pg_sleep(3600)", within=2 * BOUND_S)

        with monkeypatch.context() as patched:
            patched.setattr(lock, "execute", slow)
            postgres_server.execute(notify)
            await until_async(lambda: postgres_server.execute(f"{pid_of}{pid}"), what="the session is tested")
            assert lock._test is not None
            assert postgres_server.execute(f"SELECT pg_cancel_backend({pid})") == [(True,)]
            async with asyncio.timeout(BOUND_S):
                await asyncio.wait([lock._test])
        assert lock.held
        lock.ledger_changed.clear()
        postgres_server.execute(notify)
        async with asyncio.timeout(BOUND_S):
            await lock.ledger_changed.wait()
    finally:
        await lock.close()


def test_pitfall_1_a_child_forked_without_a_free_descriptor_keeps_no_session(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does one without ``/dev/null``; the numbers of the sockets are not those of the child's next files."""

    def none(path: Any, *more: Any, **options: Any) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)

    with connect(parse(url).url) as connection, contextlib.closing(socket.socket()) as other:
        watched = os.dup(connection.fileno())
        monkeypatch.setattr(sessions, "_watched", {*sessions._watched, watched})
        ours = os.fstat(watched).st_ino
        kept = os.fstat(other.fileno()).st_ino
        with monkeypatch.context() as patched:
            patched.setattr(os, "open", none)
            child = os.fork()
            if child == 0:
                with contextlib.suppress(BaseException):
                    there = [os.fstat(number).st_ino for number in (watched, connection.fileno())]
                    if ours not in there and os.fstat(other.fileno()).st_ino == kept:
                        os._exit(0)
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "the child has the session's socket"
        os.close(watched)
        assert connection.execute("SELECT 1").fetchone() == (1,), "the session is still ours"
