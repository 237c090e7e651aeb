"""A rolling deploy: workers of two versions share a pool, and each of them may lead (P4)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from election.schedule.plan import NOT_IN_THIS_CODE
from tests.engines.conformance.leading import Other, leading, passes, stored
from tests.engines.conformance.pool import Pool
from tests.support.waiting import until_async

pytestmark = pytest.mark.anyio


@pytest.fixture
def new(pool: Pool) -> Iterator[Other]:
    """A worker of the new version, not begun yet."""
    other = Other(pool, version="new")
    yield other
    other.end()


async def test_pitfall_72_a_rolling_deploy_loses_no_tick(pool: Pool, new: Other) -> None:
    """The old version leads, then the new one, then the old one again, which leaves in the end."""
    ledger = pool.ledger()
    try:
        async with leading(pool, version="old") as election:
            assert await new.begin() == "follows"
            first = await stored(ledger, "old")

            async def is_kept() -> bool:
                if election.is_leader:  # also once more: it may take the seat again before the new one campaigns
                    await election.resign()
                return (await stored(ledger, "old")).broken == NOT_IN_THIS_CODE

            async def is_followed() -> bool:
                seen = await election._engine.seat.observe()
                return seen.led and seen.record is not None and seen.record.holder.pid == new.pid

            await until_async(is_kept, what="the new version leads, and keeps what it does not have")
            await until_async(
                is_followed, what="the old version has seen the new one alive, and need not wait for a lease"
            )
            new.end()
            await until_async(lambda: election.is_leader, what="the old version leads again")
            await passes("old")
            found = await stored(ledger, "old")
            assert (found.broken, found.retired_at) == (None, None)
            assert found.scheduled_since == first.scheduled_since, "its schedule has not begun anew"
            assert await new.begin() == "follows"

        async def is_retired() -> bool:
            return (await stored(ledger, "old")).retired_at is not None

        await until_async(is_retired, what="no worker of the old version lives")
    finally:
        await ledger.close()
