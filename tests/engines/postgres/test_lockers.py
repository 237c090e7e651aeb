"""Another session keeps tables of the pool locked: an administrator's open transaction, a migration tool."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import psycopg
import pytest

from election import Election
from election.core.errors import LedgerError
from election.engines.postgres.address import parse
from election.engines.postgres.connection import connect, settings, shutdown
from tests.support.waiting import until, until_async

pytestmark = pytest.mark.anyio


@pytest.fixture
def stranger(url: str) -> Iterator[psycopg.Connection]:
    """A session of another program, which has begun a transaction."""
    address = parse(url)
    with psycopg.connect(address.url, application_name="migration") as connection:
        connection.execute(settings(address.schema))
        yield connection


@pytest.mark.parametrize("statement", ["SELECT 1 FROM leader FOR UPDATE", "LOCK TABLE leader IN ACCESS EXCLUSIVE MODE"])
async def test_a_locked_heartbeat_keeps_the_seat_and_names_the_session(
    url: str, stranger: psycopg.Connection, statement: str
) -> None:
    """The session of the leader lives, and so does its lock; it was given up as if the network had failed."""
    election, ran = Election(url, heartbeat=0.3, safety_poll=0.3), list[int]()

    @election.scheduled_job("interval", seconds=0.1)
    async def job() -> None:
        ran.append(1)

    async with election:
        await until_async(lambda: election.is_leader and len(ran) > 3)
        pid = stranger.info.backend_pid
        await asyncio.to_thread(stranger.execute, statement)

        told = f"session {pid} (migration, idle in transaction) keeps a table"
        await until_async(lambda: told in (election._problem() or ""), what=election._problem)
        ran.clear()
        await until_async(lambda: len(ran) > 10)
        assert (election.is_leader, election.term) == (True, 1)
        await asyncio.to_thread(stranger.rollback)

        await until_async(lambda: election._problem() is None, what=election._problem)
        assert (election.is_leader, election.term) == (True, 1)


@pytest.mark.extended
async def test_a_locked_ledger_names_the_session(url: str, stranger: psycopg.Connection) -> None:
    election = Election(url, heartbeat=0.3, safety_poll=0.3)
    async with election:
        await until_async(lambda: election.is_leader)
        pid = stranger.info.backend_pid
        await asyncio.to_thread(stranger.execute, "LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(LedgerError, match=rf"session {pid} \(migration, idle in transaction\) keeps a table"):
            await election.jobs.pause("stored")
        await asyncio.to_thread(stranger.rollback)


def test_a_session_that_waits_for_a_lock_ends_with_its_client(url: str, stranger: psycopg.Connection) -> None:
    """Not when the lock is free: so long, the session of a leader that has gone would keep the seat."""
    address, error = parse(url), list[Exception]()
    stranger.execute("SELECT pg_advisory_xact_lock(1)")
    waiting = connect(address.url, settings(address.schema))
    pid = waiting.info.backend_pid

    def wait() -> None:
        try:
            waiting.execute("SELECT pg_advisory_lock(1)")
        except psycopg.Error as raised:
            error.append(raised)

    def wait_event() -> str | None:
        found = looking.execute("SELECT wait_event FROM pg_stat_get_activity(%s::int)", (pid,)).fetchone()
        return found[0] if found else "no session"

    with connect(address.url) as looking:
        thread = threading.Thread(target=wait)
        thread.start()
        until(lambda: wait_event() == "advisory")
        shutdown(waiting)
        until(lambda: wait_event() == "no session")
    thread.join()
    waiting.close()
    assert error
