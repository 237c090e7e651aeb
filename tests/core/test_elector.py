"""The elector on a manual clock. ``simulated_pool`` judges the history of every test."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import pairwise
from unittest.mock import patch

import pytest

from election.core.backoff import RETRY_MAX_DELAY_S
from election.core.elector import SIGNAL_GRACE_S
from election.core.errors import SeatError, StaleTermError, UnfinishedJobsError
from election.core.roles import Role
from election.core.term import Reason, Standing
from election.testing import MemorySeat
from tests.support.logs import fields, logged
from tests.support.simulated import HEARTBEAT, SimulatedPool, SimulatedWorker, simulated_pool

pytestmark = pytest.mark.anyio

ERRORS = [SeatError("disk full"), OSError(28, "No space left"), RuntimeError("nobody thought of this")]


class PanicException(BaseException):
    """As extension modules in Rust raise."""


@pytest.fixture
async def pool() -> AsyncIterator[SimulatedPool]:
    async with simulated_pool() as pool:
        yield pool


class CampaignTimes:
    """Record the times of campaigns for a seat."""

    def __init__(self, pool: SimulatedPool, seat: MemorySeat) -> None:
        self.at: list[float] = []
        campaign = seat.campaign

        async def counted() -> object:
            self.at.append(pool.clock.monotonic())
            return await campaign()

        seat.campaign = counted  # type: ignore[method-assign, assignment]


# --- campaign, lead, follow ---------------------------------------------------------------------------------------


async def test_the_first_leads_and_the_others_follow(pool: SimulatedPool) -> None:
    """P1: one of the workers works, and only that one."""
    leader, *followers = [await pool.join() for _ in range(5)]
    assert pool.leaders() == [leader]
    assert leader.terms == [1]
    assert [worker.elector.role for worker in followers] == [Role.FOLLOWER] * 4
    assert pool.memory.record is not None
    assert pool.memory.record.takeover.reason is Reason.STARTED


async def test_a_followers_campaigns_wait_for_a_vacancy(pool: SimulatedPool) -> None:
    """P7: a follower does nothing while time passes."""
    await pool.join()
    follower = await pool.join()
    tries = CampaignTimes(pool, follower.seat)
    await pool.clock.advance(3600)
    assert tries.at == []


async def test_the_death_of_the_leader_begins_the_next_term(
    pool: SimulatedPool, caplog: pytest.LogCaptureFixture
) -> None:
    """P2, P6: at once, with the next number; the log names the previous leader."""
    leader = await pool.join()
    follower = await pool.join()
    caplog.set_level(logging.INFO)
    leader.crash()
    await pool.clock.settle()
    assert follower.leads
    assert follower.terms == [2]
    (line,) = logged(caplog, "took_over")
    told = fields(line)
    assert (told["term"], told["from_pid"], told["reason"]) == (2, leader.seat.process.pid, "died")
    assert told["takeover_ms"] == 0.0


async def test_the_takeover_is_measured_from_learning_of_the_vacancy(pool: SimulatedPool) -> None:
    """P6: ``takeover_ms`` covers the campaign, but not the time before it."""
    leader = await pool.join()
    await pool.join(campaign_takes=0.25)
    await pool.clock.advance(100)
    leader.crash()
    await pool.clock.advance(0.25)
    assert pool.memory.record is not None
    assert pool.memory.record.takeover.takeover_ms == pytest.approx(250)


# --- resign -------------------------------------------------------------------------------------------------------


async def test_who_resigns_ends_its_work_then_gives_up_the_seat_and_then_follows(pool: SimulatedPool) -> None:
    """P5: the order of a release."""
    leader, follower = await pool.join(drain_takes=3.0), await pool.join()
    resigning = asyncio.create_task(leader.elector.resign())
    await pool.clock.advance(2.9)
    assert leader.elector.role is Role.RESIGNING
    assert leader.seat.held() is not None
    assert not resigning.done()
    await pool.clock.advance(0.1)
    assert await resigning is True
    assert pool.events() == [
        ("won", 1), ("begin", 1), ("end", 1), ("released", 1), ("won", 2), ("begin", 2),
    ]  # fmt: skip
    assert pool.leaders() == [follower]
    assert leader.elector.role is Role.FOLLOWER
    assert pool.memory.record is not None
    assert pool.memory.record.takeover.reason is Reason.RESIGNED


async def test_the_seat_is_held_while_its_release_takes_time(pool: SimulatedPool) -> None:
    """P1, P5: a slow release delays the next term and does not overlap with it."""
    leader, follower = await pool.join(release_takes=2.0), await pool.join()
    resigning = asyncio.create_task(leader.elector.resign())
    await pool.clock.advance(1.9)
    assert not resigning.done()
    assert follower.terms == []
    await pool.clock.advance(0.1)
    assert resigning.result() is True
    assert follower.leads


async def test_who_resigned_leaves_the_seat_to_the_others(pool: SimulatedPool) -> None:
    """A resignation passes the seat to another worker, even to a slightly slower one."""
    leader, follower = await pool.join(), await pool.join(campaign_takes=0.2)
    await pool.clock.advance(1)
    await leader.elector.resign()
    await pool.clock.advance(60)
    assert pool.leaders() == [follower]
    assert leader.terms == [1]


async def test_who_resigned_alone_leads_again(pool: SimulatedPool) -> None:
    """docs/pitfalls.md#28: a second term in the same worker has a new number and new work."""
    leader = await pool.join()
    for _ in range(3):
        assert await leader.elector.resign()
        await pool.clock.advance(1)
    assert leader.leads
    assert leader.terms == [1, 2, 3, 4]


async def test_each_resignation_waits_for_its_own_release(pool: SimulatedPool) -> None:
    """P5: ``resign()`` returns only when the seat is released, in a second term as in the first."""
    leader = await pool.join()
    await leader.elector.resign()
    await pool.clock.advance(1)  # longer than the resigner's pause
    leader.drain_takes = 1.0
    resigning = asyncio.create_task(leader.elector.resign())
    await pool.clock.advance(0.9)
    assert not resigning.done()
    await pool.clock.advance(0.1)
    assert resigning.result() is True


async def test_only_a_leader_can_resign(pool: SimulatedPool) -> None:
    """``resign()`` returns whether there was a term to end, and does not wait if there was none."""
    leader, follower = await pool.join(drain_takes=1.0), await pool.join()
    assert await follower.elector.resign() is False
    assert follower.elector.request_resignation() is False
    assert leader.elector.request_resignation() is True
    second = asyncio.create_task(leader.elector.resign())
    await pool.clock.advance(1)
    assert await second is True, "a second request waits for the same release"
    assert follower.leads


async def test_a_request_to_resign_is_for_one_term_only(pool: SimulatedPool) -> None:
    """A resignation requested in one term does not end the next term."""
    leader = await pool.join()
    leader.elector.request_resignation()
    leader.elector.request_resignation()
    await pool.clock.advance(3600)
    assert leader.terms == [1, 2]
    assert leader.leads


# --- lost ---------------------------------------------------------------------------------------------------------


async def test_a_lost_term_ends_at_the_next_heartbeat_without_grace(pool: SimulatedPool) -> None:
    """Each heartbeat checks the seat; a lost term ends at once, and the record contains it."""
    leader, follower = await pool.join(drain_takes=60.0), await pool.join()
    leader.seat.take_away()
    assert leader.seat.held() is None
    await pool.clock.advance(HEARTBEAT)
    assert pool.events()[2:] == [("taken away", 1), ("end", 1), ("released", 1), ("won", 2), ("begin", 2)]
    assert follower.leads
    assert pool.memory.record is not None
    assert pool.memory.record.takeover.reason is Reason.LOST


async def test_the_seat_is_looked_after_during_the_drain_as_well(pool: SimulatedPool) -> None:
    """P5: a loss during a resignation cuts the drain short, and ``resign()`` returns at the end of the term."""
    leader = await pool.join(drain_takes=60.0)
    resigning = asyncio.create_task(leader.elector.resign())
    await pool.clock.settle()
    assert leader.elector.role is Role.RESIGNING
    leader.seat.take_away()
    leader.seat.release_takes = 1.0
    await pool.clock.advance(HEARTBEAT)
    assert leader.elector.role is Role.LOST
    assert pool.memory.record is not None
    assert pool.memory.record.standing is Standing.LOST
    await pool.clock.advance(1)
    assert resigning.result() is True


async def test_a_lost_leader_beats_until_its_work_has_ended(pool: SimulatedPool) -> None:
    """P1: a heartbeat on a lost seat keeps other workers from campaigning (the file engine rewrites the record)."""
    leader, beats = await pool.join(clings=10 * HEARTBEAT), 0
    beat = leader.seat.beat

    async def counted(problem: str | None = None, queued: int = 0) -> None:
        nonlocal beats
        beats += 1
        await beat(problem, queued)

    leader.seat.beat = counted  # type: ignore[method-assign]
    leader.seat.take_away()
    await pool.clock.advance(HEARTBEAT)
    assert leader.elector.role is Role.LOST
    beats = 0
    await pool.clock.advance(5 * HEARTBEAT)
    assert beats == 5
    await pool.clock.advance(60)
    assert leader.terms == [1, 2]


async def test_a_lost_term_is_not_resigned(pool: SimulatedPool) -> None:
    """A lost seat is not released in order."""
    leader = await pool.join(release_takes=1.0)
    leader.seat.take_away()
    await pool.clock.advance(HEARTBEAT)
    assert leader.elector.role is Role.LOST
    assert await leader.elector.resign() is False


# --- stop ---------------------------------------------------------------------------------------------------------


async def test_a_follower_stops_at_once(pool: SimulatedPool) -> None:
    """docs/pitfalls.md#8: a follower stops without a campaign and without waiting for the leader."""
    leader, follower = await pool.join(), await pool.join()
    follower.elector.stop()
    await pool.clock.settle()
    assert follower.task.done()
    assert follower.elector.role is Role.STOPPED
    leader.crash()
    await pool.clock.advance(60)
    assert follower.terms == []


async def test_a_leader_stops_when_its_work_has_ended(pool: SimulatedPool) -> None:
    """P5: a stop is a resignation with no campaign after it."""
    leader = await pool.join(drain_takes=2.0)
    leader.elector.stop()
    await pool.clock.advance(1.9)
    assert not leader.task.done()
    await pool.clock.advance(0.1)
    assert leader.task.done()
    assert leader.elector.role is Role.STOPPED
    assert pool.events() == [("won", 1), ("begin", 1), ("end", 1), ("released", 1)]


async def test_a_stop_while_campaigning_begins_no_work(pool: SimulatedPool) -> None:
    """docs/pitfalls.md#34: a seat won after the stop is released unused."""
    worker = await pool.join(campaign_takes=2.0)
    await pool.clock.advance(1)
    worker.elector.stop()
    await pool.clock.advance(1)
    assert worker.task.done()
    assert pool.events() == [("won", 1), ("released", 1)]
    assert worker.elector.role is Role.STOPPED


async def test_a_stop_while_the_seat_cannot_be_reached_does_not_wait_for_it(pool: SimulatedPool) -> None:
    """docs/pitfalls.md#40: a worker with a failing seat can be stopped like any other."""
    worker = await pool.join(campaign_raises=SeatError("disk full"))
    await pool.clock.advance(60)
    worker.elector.stop()
    await pool.clock.settle()
    assert worker.elector.role is Role.STOPPED
    assert worker.task.done()


async def test_a_pool_that_is_stopped_elects_nobody_on_the_way_down(pool: SimulatedPool) -> None:
    """docs/pitfalls.md#34: the workers receive the stop one after the other, the leader first."""
    leader, *followers = [await pool.join() for _ in range(4)]
    stopping = []
    for worker in [leader, *followers]:
        stopping.append(asyncio.create_task(worker.elector.stop_with_the_pool()))
        await pool.clock.advance(SIGNAL_GRACE_S / 5)
    assert leader.leads, "it leads on until the others have been told"
    await pool.clock.advance(SIGNAL_GRACE_S)
    assert [worker.elector.role for worker in pool.workers] == [Role.STOPPED] * 4
    assert pool.events() == [("won", 1), ("begin", 1), ("end", 1), ("released", 1)]
    await asyncio.gather(*stopping)


async def test_a_worker_that_stops_alone_hands_over(pool: SimulatedPool) -> None:
    """P6: workers that do not receive the stop take over after the grace period."""
    leader, follower = await pool.join(), await pool.join()
    stopping = asyncio.create_task(leader.elector.stop_with_the_pool())
    await pool.clock.advance(SIGNAL_GRACE_S)
    assert follower.leads
    assert leader.elector.role is Role.STOPPED
    await stopping


async def test_who_loses_its_seat_while_the_pool_stops_does_not_campaign(pool: SimulatedPool) -> None:
    """docs/pitfalls.md#34: also when the term ends in another way than planned."""
    leader = await pool.join()
    stopping = asyncio.create_task(leader.elector.stop_with_the_pool())
    await pool.clock.settle()
    leader.seat.take_away()
    await pool.clock.advance(HEARTBEAT)
    assert leader.elector.role is Role.STOPPED
    assert leader.terms == [1]
    await stopping


async def test_a_cancelled_elector_gives_the_seat_up_in_order(pool: SimulatedPool) -> None:
    """P5: the work ends, the seat is released, and only then is the cancellation raised."""
    leader, follower = await pool.join(drain_takes=1.0), await pool.join()
    leader.task.cancel()
    await pool.clock.settle()
    assert not leader.task.done()
    await pool.clock.advance(1)
    assert leader.task.cancelled()
    assert leader.elector.role is Role.FOLLOWER
    assert pool.events()[:4] == [("won", 1), ("begin", 1), ("end", 1), ("released", 1)]
    assert follower.leads


async def test_an_error_in_the_drain_does_not_swallow_the_cancellation(pool: SimulatedPool) -> None:
    """``asyncio.run`` cancels remaining tasks and waits for them: an elector that continued would block the exit."""
    leader = await pool.join(exit_raises=RuntimeError("the drain broke"))
    leader.task.cancel()
    await pool.clock.settle()
    assert leader.task.cancelled()
    assert pool.events() == [("won", 1), ("begin", 1), ("end", 1), ("released", 1)]


async def test_a_cancelled_follower_just_ends(pool: SimulatedPool) -> None:
    """Nothing remains that would wake up at the next vacancy."""
    leader, follower = await pool.join(), await pool.join()
    follower.task.cancel()
    await pool.clock.settle()
    assert follower.task.cancelled()
    leader.crash()
    await pool.clock.advance(60)
    assert pool.leaders() == []


# --- work that may not be left behind -----------------------------------------------------------------------------


async def test_unfinished_work_keeps_the_seat(pool: SimulatedPool, caplog: pytest.LogCaptureFixture) -> None:
    """P5: the elector ends without a release; nobody leads until the process has exited, which the log states."""
    leader, follower = await pool.join(exit_raises=UnfinishedJobsError("still running: app:job")), await pool.join()
    leader.elector.stop()
    await pool.clock.advance(3600)
    assert leader.task.done()
    assert leader.task.exception() is None
    assert leader.seat.held() is not None
    assert follower.terms == []
    (line,) = logged(caplog, "release_deferred")
    assert "still running: app:job" in line.getMessage()
    leader.crash()
    await pool.clock.settle()
    assert follower.leads


# --- trouble ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_a_campaign_that_fails_is_told_and_tried_again(pool: SimulatedPool, error: Exception) -> None:
    """docs/pitfalls.md#22: an error is not contention: it is published while it lasts and cleared when it is over."""
    worker = await pool.join(campaign_raises=error)
    await pool.clock.advance(60)
    assert worker.elector.trouble == str(error)
    assert worker.elector.role is Role.FOLLOWER
    worker.seat.campaign_raises = None
    await pool.clock.advance(RETRY_MAX_DELAY_S)
    assert worker.leads
    assert worker.elector.trouble is None


async def test_trouble_without_words_is_told_as_well(pool: SimulatedPool) -> None:
    """An error with an empty message is still described."""
    worker = await pool.join(campaign_raises=RuntimeError())
    assert worker.elector.trouble == "RuntimeError()"
    worker.seat.campaign_raises = None
    await pool.clock.advance(1)
    worker.seat.beat_raises = SeatError()
    await pool.clock.advance(1)
    assert worker.elector.trouble == "SeatError()"


async def test_failing_campaigns_become_rare(pool: SimulatedPool) -> None:
    """docs/pitfalls.md#22: each delay is twice the last, up to a limit."""
    worker = await pool.join()
    worker.elector.stop()
    other = SimulatedWorker(pool.memory, pool.clock)
    tries = CampaignTimes(pool, other.seat)
    other.seat.campaign_raises = SeatError("disk full")
    pool.workers.append(other)
    await other.start()
    await pool.clock.advance(40)
    waits = [after - before for before, after in pairwise(tries.at)]
    assert waits[:6] == pytest.approx([0.5, 1, 2, 4, RETRY_MAX_DELAY_S, RETRY_MAX_DELAY_S])


async def test_the_log_tells_a_lasting_failure_once_and_then_counts(
    pool: SimulatedPool, caplog: pytest.LogCaptureFixture
) -> None:
    """Repeated errors are logged rarely, so that they do not fill a full disk; the end of the trouble is logged too."""
    caplog.set_level(logging.INFO)
    worker = await pool.join(campaign_raises=SeatError("disk full"))
    await pool.clock.advance(40)  # 11 attempts
    first, tenth = logged(caplog, "campaign_failed")
    assert caplog.records == [first, tenth]
    assert "disk full" in first.getMessage()
    assert "10" in tenth.getMessage()
    assert "disk full" in tenth.getMessage()
    caplog.clear()
    worker.seat.campaign_raises = None
    await pool.clock.advance(RETRY_MAX_DELAY_S)
    (line,) = logged(caplog, "campaign_recovered")
    assert "11" in line.getMessage(), "it is logged now, not only when the term ends"


async def test_trouble_after_a_good_term_is_new_trouble(pool: SimulatedPool, caplog: pytest.LogCaptureFixture) -> None:
    """A term resets the count of failures: the next failure is logged in full and retried soon."""
    worker = await pool.join(campaign_raises=SeatError("disk full"))
    await pool.clock.advance(30)
    worker.seat.campaign_raises = None
    await pool.clock.advance(RETRY_MAX_DELAY_S)
    assert worker.leads
    caplog.clear()
    worker.exit_raises = RuntimeError("the drain broke")
    await worker.elector.resign()
    await pool.clock.settle()
    assert ["the drain broke" in line.getMessage() for line in logged(caplog, "campaign_failed")] == [True]
    worker.exit_raises = None
    await pool.clock.advance(HEARTBEAT)
    assert worker.leads


@pytest.mark.parametrize(
    ("error", "traceback"),
    [(ERRORS[0], False), (ERRORS[1], False), (ERRORS[2], True), (StaleTermError("term 8 is over"), False)],
    ids=lambda value: type(value).__name__,
)
async def test_only_a_surprise_is_told_with_its_traceback(
    pool: SimulatedPool, caplog: pytest.LogCaptureFixture, error: Exception, traceback: bool
) -> None:
    """Expected errors have no traceback in the log."""
    await pool.join(campaign_raises=error)
    (told,) = logged(caplog, "campaign_failed")
    assert bool(told.exc_info) is traceback


async def test_work_that_cannot_begin_leaves_the_seat_to_others(pool: SimulatedPool) -> None:
    """docs/pitfalls.md#40: without its work there is no term; the worker recovers by itself."""
    broken = await pool.join(entry_raises=RuntimeError("no threads left"))
    assert broken.elector.role is Role.FOLLOWER
    assert broken.elector.trouble == "no threads left"
    assert broken.seat.held() is None
    healthy = await pool.join()
    assert healthy.leads
    await pool.clock.advance(60)
    assert pool.leaders() == [healthy]
    healthy.crash()
    await pool.clock.advance(RETRY_MAX_DELAY_S)
    assert broken.elector.role is Role.FOLLOWER
    broken.entry_raises = None
    await pool.clock.advance(RETRY_MAX_DELAY_S)
    assert broken.leads


@pytest.mark.parametrize("error", [PanicException("index out of bounds"), asyncio.CancelledError()], ids=repr)
async def test_pitfall_64_an_exception_that_is_no_exception_ends_no_elector(
    pool: SimulatedPool, error: BaseException
) -> None:
    """Also a ``CancelledError`` that nobody has asked for; nobody would lead for ever."""
    worker = await pool.join(entry_raises=error)
    assert worker.elector.role is Role.FOLLOWER
    assert worker.elector.trouble is not None
    assert type(error).__name__ in worker.elector.trouble
    worker.entry_raises = None
    await pool.clock.advance(RETRY_MAX_DELAY_S)
    assert worker.leads


async def test_work_that_ends_badly_has_ended(pool: SimulatedPool) -> None:
    """P5: an error in the drain releases the seat, because no job code runs any more."""
    leader, follower = await pool.join(exit_raises=RuntimeError("the drain broke")), await pool.join()
    assert await leader.elector.resign() is True
    await pool.clock.settle()
    assert follower.leads
    assert leader.elector.trouble == "the drain broke"


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_a_heartbeat_that_fails_is_told_and_the_term_goes_on(pool: SimulatedPool, error: Exception) -> None:
    """A full disk ends no term; after any error, the next heartbeat comes."""
    leader = await pool.join()
    leader.seat.beat_raises = error
    await pool.clock.advance(5)
    assert leader.leads
    assert leader.elector.trouble == str(error)
    leader.seat.beat_raises = None
    await pool.clock.advance(HEARTBEAT)
    assert leader.elector.trouble is None
    seen = await leader.seat.observe()
    assert seen.heartbeat_age_s == 0


async def test_a_heartbeat_that_fails_on_and_on_is_told_once_and_then_counted(
    pool: SimulatedPool, caplog: pytest.LogCaptureFixture
) -> None:
    leader = await pool.join()
    for _ in range(2):
        caplog.clear()
        leader.seat.beat_raises = SeatError("disk full")
        await pool.clock.advance(20.5 * HEARTBEAT)
        told = [line.getMessage() for line in logged(caplog, "heartbeat_failed")]
        assert len(told) == 3
        assert all("disk full" in each for each in told)
        assert ["10" in told[1], "20" in told[2]] == [True, True]
        leader.seat.beat_raises = None
        await pool.clock.advance(HEARTBEAT)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_a_loss_is_noticed_even_after_heartbeats_that_failed(pool: SimulatedPool, error: Exception) -> None:
    """P1: the heartbeat survives an unexpected error; otherwise a lost seat would stay unnoticed."""
    leader, follower = await pool.join(), await pool.join()
    leader.seat.beat_raises = error
    await pool.clock.advance(5)
    leader.seat.take_away()
    leader.seat.beat_raises = None
    await pool.clock.advance(HEARTBEAT)
    assert follower.leads


async def test_a_release_that_fails_does_not_silence_the_worker(pool: SimulatedPool) -> None:
    """P6: the work has ended, so the worker releases the seat and campaigns again instead of holding it without
    leading.
    """
    leader, follower = await pool.join(), await pool.join()
    leader.seat.release_raises = SeatError("cannot be unlocked")
    assert await leader.elector.resign() is True
    await pool.clock.settle()
    assert leader.elector.trouble == "cannot be unlocked"
    leader.seat.release_raises = None
    await pool.clock.advance(RETRY_MAX_DELAY_S)
    assert len(pool.leaders()) == 1
    assert await leader.elector.resign() is True
    await pool.clock.settle()
    assert pool.leaders() == [follower]


async def test_a_watch_that_breaks_does_not_end_the_follower(pool: SimulatedPool) -> None:
    """``run`` raises nothing: an error while waiting for a vacancy leads to another try."""
    leader, follower = await pool.join(), SimulatedWorker(pool.memory, pool.clock)
    pool.workers.append(follower)
    with patch.object(follower.seat, "vacancy", side_effect=RuntimeError("no watch")):
        await follower.start()
        await pool.clock.advance(60)
    assert follower.elector.trouble == "no watch"
    leader.crash()
    await pool.clock.advance(RETRY_MAX_DELAY_S)
    assert follower.leads
    assert follower.elector.trouble is None


async def test_the_record_tells_when_a_term_began_and_ended(pool: SimulatedPool) -> None:
    """``/leader`` shows the heartbeat by the injected clock, not by the machine's."""
    leader = await pool.join()
    begun = pool.clock.now()
    await pool.clock.advance(90)
    leader.elector.stop()
    await pool.clock.settle()
    record = pool.memory.record
    assert record is not None
    assert record.elected_at == begun
    assert record.ended_at == begun + timedelta(seconds=90)


async def test_a_heartbeat_that_something_else_cancels_ends_the_term_in_order(
    pool: SimulatedPool, caplog: pytest.LogCaptureFixture
) -> None:
    """P8: an application may cancel all tasks of its loop; no worker keeps leading without a heartbeat."""
    leader, follower = await pool.join(), await pool.join()
    assert leader.leads
    [beating] = [task for task in asyncio.all_tasks() if task.get_name() == "election heartbeat"]
    beating.cancel()
    await pool.clock.advance(HEARTBEAT)
    assert not leader.leads
    assert follower.leads
    [line] = logged(caplog, "task_ended")
    assert "'election heartbeat' was cancelled by something else" in line.getMessage()
