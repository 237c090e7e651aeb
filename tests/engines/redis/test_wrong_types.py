"""Keys of a pool that somebody else has written, with another type (docs/pitfalls.md#63)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import redis

from election import Election
from election.core.errors import LedgerError
from election.engines.redis import RedisLedger
from election.engines.redis.address import address_of
from election.schedule.ledger import Ledger
from tests.engines.odd_rows import lead_on, read_everything
from tests.engines.redis.test_odd_rows import PREFIX, client, filled, restore  # noqa: F401  (fixtures)
from tests.schedule.stored_functions import remember
from tests.support.redis_server import Server
from tests.support.waiting import until_async

pytestmark = [pytest.mark.anyio, pytest.mark.extended]

ESSENTIAL = {
    "audit_seq", "changed", "jobs", "open", "request_seq", "requests", "run_seq", "runs", "term", "terms", "version"
}  # fmt: skip
"""Keys without which a leader does not know what it may run, or cannot number it."""

HISTORY = {"audits", "runs", "skips", "troubled"}
"""Indexes of the history; also those of a job."""


def spoil(client: redis.Redis, key: str) -> None:  # noqa: F811
    """Put something of another type in the place of a key."""
    kind = client.type(key)
    client.delete(key)
    if kind == "string":
        client.rpush(key, "a list")
    else:
        client.set(key, "a text")


async def use(url: str, what: Callable[[Ledger], Awaitable[None]]) -> str | None:
    """Use the ledger; returns the error that it raises, if any."""
    ledger = RedisLedger(address_of(url))
    try:
        await what(ledger)
    except LedgerError as error:
        return str(error)
    finally:
        await ledger.close()
    return None


async def test_pitfall_63_no_key_stops_another_job(filled: str, client: redis.Redis) -> None:  # noqa: F811
    """A key without which nothing can be done is named, with the way out."""
    keys = sorted(client.keys(PREFIX + "*"))
    assert len(keys) > 40
    for key in keys:
        name = key.removeprefix(PREFIX)
        named = f"the key {key} is not of the type that the pool keeps there"
        for what, hindered in ((lead_on, ESSENTIAL), (read_everything, ESSENTIAL | HISTORY)):
            restore(client)
            spoil(client, key)
            error = await use(filled, what)
            if name in hindered or (what is read_everything and name.partition(":")[0] in HISTORY):
                assert error is None or named in error, name
                assert name in {"audit_seq", "run_seq", "request_seq", "changed"} or error is not None or ":" in name
            else:
                assert error is None, f"{name}: {error}"


async def test_a_job_of_the_code_goes_on_and_what_took_its_place_is_kept(steady: Server, client: redis.Redis) -> None:  # noqa: F811
    """Also while a term lasts, in which its claims are refused until it is planned anew."""
    election, ran = Election(steady.patient_url, heartbeat=0.2), list[str]()

    @election.scheduled_job("interval", seconds=0.1, id="spoiled")
    async def spoiled() -> None:
        ran.append("spoiled")

    async with election:
        await until_async(lambda: len(ran) >= 3)
        client.set(f"{PREFIX}job:spoiled", "somebody's")
        before = len(ran)
        await until_async(lambda: len(ran) >= before + 5)
        assert client.type(f"{PREFIX}job:spoiled") == "hash"
        assert client.get(f"{PREFIX}aside:job:spoiled") == "somebody's"


async def test_a_job_added_at_run_time_is_broken_and_can_be_replaced(steady: Server, client: redis.Redis) -> None:  # noqa: F811
    election, ran = Election(steady.patient_url, heartbeat=0.2), list[str]()

    @election.scheduled_job("interval", seconds=0.1, id="steady")
    async def goes_on() -> None:
        ran.append("steady")

    async with election:
        for name in ("added", "removed"):
            await election.add_job(remember, "interval", seconds=0.1, id=name)
            await until_async(lambda name=name: election.jobs.runs(name))
            client.set(f"{PREFIX}job:{name}", "somebody's")

        async def broken() -> str:
            return (await election.jobs.get("added")).broken or ""

        await until_async(broken)
        assert f"the key {PREFIX}job:added is not of the type" in await broken()
        before = len(ran)
        await until_async(lambda: len(ran) >= before + 5)
        latest = (await election.jobs.runs("added"))[0].seq
        await election.add_job(remember, "interval", seconds=0.1, id="added", replace=True)
        await election.remove_job("removed")

        async def goes_on_again() -> bool:
            return (await election.jobs.runs("added"))[0].seq > latest

        await until_async(goes_on_again)
        assert {job.id for job in await election.jobs.list()} == {"steady", "added"}
