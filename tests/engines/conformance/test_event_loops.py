"""One Election on several event loops in turn, as in an application under test, or in a notebook."""

from __future__ import annotations

import asyncio

from tests.engines.conformance.jobs import begun, election_on
from tests.engines.conformance.leading import count
from tests.engines.conformance.pool import Pool
from tests.support.waiting import until_async


def test_pitfall_66_an_election_may_live_on_one_event_loop_after_another(pool: Pool) -> None:
    """Each time it leads, runs its jobs, reports the leader, and resigns."""
    election = election_on(pool.url, **pool.options)
    election.check()

    async def live(term: int) -> None:
        begun.clear()
        async with election:
            await until_async(lambda: election.is_leader and count("often"), what="it leads, and runs")
            assert election.term == term

            async def led() -> int | None:
                seen = await election._engine.seat.observe()
                return seen.record.term if seen.led and seen.record is not None else None

            assert await until_async(led, what="it has read who leads") == term

    for term in (1, 2, 3):
        asyncio.run(live(term))
