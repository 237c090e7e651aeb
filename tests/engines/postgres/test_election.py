"""An ``Election`` on a server, in this process: it never blocks the loop (P8), and leaves nothing behind."""

from __future__ import annotations

import asyncio

import psycopg  # noqa: F401  at import, as an application does, and not while a loop runs
import pytest

from election import Election
from tests.engines.conformance.engines import patience
from tests.support.postgres_server import PostgresServer, RunningPostgres, sessions
from tests.support.waiting import until_async

pytestmark = pytest.mark.anyio


async def test_p8_a_whole_life(url: str, postgres_server: RunningPostgres) -> None:
    ran = asyncio.Event()
    before = await asyncio.to_thread(sessions, postgres_server)
    with patience():
        election = Election(url, heartbeat=0.05, safety_poll=0.1)

    @election.scheduled_job("interval", seconds=0.1)
    async def job() -> None:
        ran.set()

    await asyncio.to_thread(election.check)
    for number in (1, 2):
        async with election:
            await until_async(lambda: election.is_leader, what="it leads")
            assert election.term == number
            ran.clear()
            await asyncio.wait_for(ran.wait(), 30)
        assert not election.is_leader

    async def ended() -> bool:
        return await asyncio.to_thread(sessions, postgres_server) <= before

    await until_async(ended, what="the server has ended its sessions")


@pytest.mark.extended
async def test_a_server_that_goes_and_comes(own_server: PostgresServer) -> None:
    election = Election(own_server.url(), heartbeat=0.05, safety_poll=0.1)
    await asyncio.to_thread(election.check)
    async with election:
        await until_async(lambda: election.is_leader, what="it leads")
        await asyncio.to_thread(own_server.kill)
        await until_async(lambda: not election.is_leader, what="it does not believe in its seat")
        await asyncio.to_thread(own_server.start)
        await until_async(lambda: election.is_leader, what="it leads again")
        assert (election.term or 0) > 1
