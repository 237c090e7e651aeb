"""Fields that no worker of this version writes: all else goes on (P10)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from election.engines.redis import RedisLedger
from election.engines.redis.address import address_of
from election.schedule.ledger import IfExists
from election.schedule.model import NewJob
from tests.engines.odd_rows import FUNCTION, JOB, failures, fill, in_turn
from tests.support.redis_server import Server

pytestmark = [pytest.mark.anyio, pytest.mark.extended]

MISSING = "missing"

PREFIX, ASIDE = "election:{election}:", "aside:"


@pytest.fixture
def client(steady: Server) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(steady.patient_url, decode_responses=True) as client:
        yield client


@pytest.fixture
async def filled(steady: Server, client: redis.Redis) -> AsyncIterator[str]:
    """URL of a server with a history, of which each key has a copy aside."""
    ledger = RedisLedger(address_of(steady.patient_url))
    await fill(ledger)
    await ledger.close()
    for key in client.keys(PREFIX + "*"):
        client.copy(key, ASIDE + key)
    yield steady.patient_url


def restore(client: redis.Redis) -> None:
    client.delete(*client.keys(PREFIX + "*"))
    with client.pipeline() as pipe:
        for key in client.keys(ASIDE + "*"):
            pipe.copy(key, key.removeprefix(ASIDE))
        pipe.execute()


async def test_pitfall_63_no_field_stops_the_next_leader_and_another_job(filled: str, client: redis.Redis) -> None:
    """Every field of every row, one after the other."""
    rows = [key for key in client.keys(PREFIX + "*") if client.type(key) == "hash" and not key.endswith("job:steady")]
    kinds = [(key, "jobs" if key.startswith(PREFIX + "job:") else key.split(":")[2]) for key in sorted(rows)]
    fields = [(kind, field, key) for key, kind in kinds for field in client.hkeys(key)]
    tried, failed = 0, list[str]()
    for _, field, key, odd in in_turn(fields, ["x", MISSING, "nan", "1e300"]):
        restore(client)
        if odd is MISSING:
            client.hdel(key, field)
        else:
            client.hset(key, field, odd)
        tried += 1
        failed += await failures(RedisLedger(address_of(filled)), what=f"{odd} as {field!r} of {key}")
    assert tried > 150
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize(("field", "value"), [("kwargs", '{"value":1}'), ("kwargs", '{"ü": 1}'), ("info", "x")])
async def test_a_job_that_somebody_has_written_by_hand_can_be_changed(
    filled: str, client: redis.Redis, field: str, value: str
) -> None:
    """In other words than ours, or in none that can be read."""
    ledger = RedisLedger(address_of(filled))
    for way in ("modify", "replace", "remove"):
        restore(client)
        client.hset(f"{PREFIX}job:added", field, value)
        if way == "modify":
            await ledger.modify_job("added", lambda found: NewJob("added", JOB.schedule, FUNCTION))
        elif way == "replace":
            await ledger.store_jobs([NewJob("added", JOB.schedule, FUNCTION)], if_exists=IfExists.REPLACE)
        else:
            await ledger.remove_job("added")
        [found] = await ledger.find_jobs(["added"])
        assert found.removed == (way == "remove")
        assert way == "remove" or found.stored == FUNCTION
    await ledger.close()
