"""Requests to the leader are noticed at once, however long its heartbeat."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import psycopg  # noqa: F401  at import, as an application does, and not while a loop runs
import pytest

from election import Election
from election.engines import open_engine
from election.schedule.ledger import Ledger
from election.schedule.model import Action
from tests.support.postgres_server import RunningPostgres
from tests.support.waiting import until_async

pytestmark = pytest.mark.anyio

HEARTBEAT = 30.0
SOON = 20.0
"""Seconds: well before the next heartbeat, on a busy machine."""

runs: list[float] = []


async def tick() -> None:
    runs.append(time.monotonic())


@pytest.fixture
async def leader(url: str) -> AsyncIterator[Election]:
    runs.clear()
    election = Election(url, heartbeat=HEARTBEAT, stalled_after=2 * HEARTBEAT)
    election.scheduled_job("interval", seconds=0.2, id="often")(tick)
    election.scheduled_job("interval", days=300, id="seldom")(tick)
    async with election:
        await until_async(lambda: election.is_leader and bool(runs), what="it leads")
        yield election


@pytest.fixture
async def outside(leader: Election, url: str) -> AsyncIterator[Ledger]:
    """The ledger in another process, such as the command line."""
    ledger = open_engine(url, heartbeat=0.5, safety_poll=1.0).open_ledger()
    yield ledger
    await ledger.close()


async def test_pause_run_resume_and_resign(leader: Election, outside: Ledger) -> None:
    took = {}

    async def quiet() -> bool:
        before = len(runs)
        await asyncio.sleep(0.5)
        return len(runs) == before

    began = time.monotonic()
    await outside.pause("often", True)
    while not await quiet():
        assert time.monotonic() - began < SOON, "paused"
    took["pause"] = time.monotonic() - began
    for what, control in (
        ("run", lambda: outside.request(Action.RUN, job_id="seldom")),
        ("resume", lambda: outside.pause("often", False)),
    ):
        before, began = len(runs), time.monotonic()
        await control()
        await until_async(lambda before=before: len(runs) > before, what=what, timeout=SOON)
        took[what] = runs[before] - began
    began = time.monotonic()
    await outside.request(Action.RESIGN, term=1)
    await until_async(lambda: leader.term != 1, what="it resigns", timeout=SOON)
    took["resign"] = time.monotonic() - began
    print("\n" + ", ".join(f"{what}: {1000 * seconds:.0f} ms" for what, seconds in took.items()))
    assert max(took.values()) < SOON
    await until_async(lambda: leader.term == 2, what="it is elected again")


async def test_without_a_word_from_the_server_the_next_look_finds_it(
    url: str, postgres_server: RunningPostgres
) -> None:
    ran_seldom = asyncio.Event()

    async def seldom() -> None:
        ran_seldom.set()

    runs.clear()
    election = Election(url, heartbeat=0.2)
    election.scheduled_job("interval", seconds=0.2, id="often")(tick)
    election.scheduled_job("interval", days=300, id="seldom")(seldom)
    async with election:
        await until_async(lambda: bool(runs), what="it leads, with its jobs in the ledger")
        schema = election._engine.ledger.store.database._address.schema  # type: ignore[attr-defined]
        body = f'BEGIN UPDATE "{schema}".meta SET version = version + 1; END'
        silence = f'CREATE OR REPLACE FUNCTION "{schema}".note_change() RETURNS void LANGUAGE plpgsql AS $${body}$$'
        await asyncio.to_thread(postgres_server.execute, silence)
        ledger = open_engine(url, heartbeat=0.5, safety_poll=1.0).open_ledger()
        try:
            await ledger.request(Action.RUN, job_id="seldom")
        finally:
            await ledger.close()
        await asyncio.wait_for(ran_seldom.wait(), SOON)
