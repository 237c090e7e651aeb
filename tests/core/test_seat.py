"""The shared ``Seat`` on a backend in memory: the parts that it adds to each engine."""

from __future__ import annotations

import asyncio

import pytest

from election.core.backend import LatestTerms
from election.core.errors import PoolInUseError
from election.core.seat import LOSER_PAUSE, RESIGNER_PAUSE, Seat
from election.core.term import Reason, Standing
from election.testing import ManualClock, MemoryPool
from election.testing.pool import MemoryBackend

pytestmark = pytest.mark.anyio

SAFETY_POLL_S = 0.4


class History:
    """A ledger with earlier terms."""

    def __init__(self) -> None:
        self.last, self.fenced, self.closed = 0, 0, 0

    async def latest_terms(self) -> LatestTerms:
        return LatestTerms(self.last, self.fenced)

    async def close(self) -> None:
        self.closed += 1


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def pool(clock: ManualClock) -> MemoryPool:
    return MemoryPool(clock)


@pytest.fixture
def history() -> History:
    return History()


@pytest.fixture
def seat(pool: MemoryPool, clock: ManualClock, history: History) -> Seat:
    return Seat(MemoryBackend(pool), clock=clock, safety_poll=SAFETY_POLL_S, history=history)


@pytest.mark.parametrize(("standing", "pause"), [(Standing.RESIGNED, RESIGNER_PAUSE), (Standing.LOST, LOSER_PAUSE)])
async def test_a_worker_that_gave_the_seat_up_leaves_it_to_the_others(
    seat: Seat, clock: ManualClock, standing: Standing, pause: float
) -> None:
    assert await seat.campaign()
    await seat.release(standing)
    waiting = asyncio.create_task(seat.vacancy())
    await clock.advance(SAFETY_POLL_S * pause * 0.9)
    assert not waiting.done()
    await clock.advance(SAFETY_POLL_S * pause * 0.2)
    assert waiting.done()


async def test_p2_the_number_is_larger_than_any_that_the_ledger_knows(seat: Seat, history: History) -> None:
    history.last = 41
    term = await seat.campaign()
    assert term is not None
    assert term.number == 42
    assert seat.held() == term


@pytest.mark.parametrize(
    ("came_before", "reason"), [(True, Reason.RESIGNED), (False, Reason.STARTED)], ids=["before", "after"]
)
async def test_a_leader_that_resigned_while_a_worker_took_part_was_no_end_of_the_pool(
    seat: Seat, pool: MemoryPool, clock: ManualClock, came_before: bool, reason: Reason
) -> None:
    """Also for a worker that was too slow to find the seat taken at its first campaign."""
    former = pool.seat()
    assert await former.campaign()
    if came_before:
        await seat.open()
    await clock.advance(1)
    await former.release(Standing.RESIGNED)
    await clock.advance(1)
    if not came_before:
        await seat.open()
    term = await seat.campaign()
    assert term is not None
    assert term.takeover.reason is reason


async def test_a_fence_that_the_ledger_knows_is_the_reason(seat: Seat, pool: MemoryPool, history: History) -> None:
    former = pool.seat()
    assert await former.campaign()
    former.crash()
    history.fenced = 1
    term = await seat.campaign()
    assert term is not None
    assert term.takeover.reason is Reason.FENCED


async def test_the_takeover_is_known_in_the_process_as_soon_as_it_is_confirmed(seat: Seat) -> None:
    assert seat.takeover is None
    term = await seat.campaign()
    assert term is not None
    assert seat.takeover == term.takeover
    await seat.confirm(12.3462)
    assert seat.takeover is not None
    assert seat.takeover.takeover_ms == 12.35
    record = (await seat.observe()).record
    assert record is not None
    assert record.takeover == seat.takeover
    await seat.release(Standing.RESIGNED)
    assert seat.takeover is None


async def test_a_campaign_that_is_cancelled_while_it_publishes_gives_the_seat_back(
    seat: Seat, pool: MemoryPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, publishing, may_go_on = seat.backend.publish, asyncio.Event(), asyncio.Event()

    async def slow(record: object) -> bool:
        publishing.set()
        await may_go_on.wait()
        return await publish(record)  # type: ignore[arg-type]

    monkeypatch.setattr(seat.backend, "publish", slow)
    campaign = asyncio.create_task(seat.campaign())
    await publishing.wait()
    campaign.cancel()
    await asyncio.sleep(0)
    assert not campaign.done(), "the term may have begun"
    may_go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await campaign
    assert pool.holder is None
    assert pool.record is not None
    assert pool.record.standing is Standing.RESIGNED


async def test_p7_a_campaign_that_fails_leaves_no_connection_to_the_ledger(
    seat: Seat, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(record: object) -> bool:
        return False

    monkeypatch.setattr(seat.backend, "publish", lost)
    assert await seat.campaign() is None
    assert history.closed == 1
    assert seat.held() is None


async def test_one_process_takes_part_once(seat: Seat, clock: ManualClock) -> None:
    other = Seat(seat.backend, clock=clock, safety_poll=SAFETY_POLL_S)
    await seat.open()
    with pytest.raises(PoolInUseError, match="already takes part"):
        await other.open()
    await seat.close()
    await other.open()
    await other.close()
