"""Fields that no worker of this version writes: all else goes on (P10)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from election.engines.redis import RedisLedger
from election.engines.redis.address import address_of
from tests.engines.odd_rows import fill, lead_on, read_everything
from tests.support.redis_server import Server

pytestmark = [pytest.mark.anyio, pytest.mark.extended]

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


@pytest.mark.parametrize("odd", ["x", None], ids=["text", "missing"])
async def test_pitfall_63_no_field_stops_the_next_leader_and_another_job(
    filled: str, client: redis.Redis, odd: str | None
) -> None:
    """Every field of every row, one after the other."""
    rows = [key for key in client.keys(PREFIX + "*") if client.type(key) == "hash" and not key.endswith("job:steady")]
    fields = [(key, field) for key in sorted(rows) for field in client.hkeys(key)]
    assert len(fields) > 100
    for key, field in fields:
        for act in (read_everything, lead_on):
            restore(client)
            if odd is None:
                client.hdel(key, field)
            else:
                client.hset(key, field, odd)
            ledger = RedisLedger(address_of(filled))
            try:
                await act(ledger)
            except Exception as error:
                raise AssertionError(f"with {odd} as {field!r} of {key}") from error
            finally:
                await ledger.close()
