"""A wall clock that was ahead: no job runs, every view gives the reason, and the present time can be accepted (P2 to
P4).
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from election.schedule.model import SkipReason
from election.schedule.term_warnings import TOLERANCE, describe_ahead, settled_ahead
from tests.schedule.making import NOW, at, make_job, state_of
from tests.schedule.term_bench import MINUTES, TermBench
from tests.support.logs import logged

pytestmark = pytest.mark.anyio

YEAR = timedelta(days=365)


async def led(bench: TermBench, number: int, runs: int) -> None:
    """A term that ends after that many more runs."""
    wanted = len(bench.ran) + runs

    async def lead() -> None:
        async with bench.term(number):
            await bench.wait(lambda: len(bench.ran) >= wanted)

    await bench.until(asyncio.ensure_future(lead()).done)


async def test_pitfall_71_a_clock_that_was_ahead_is_told_and_can_be_accepted(
    bench: TermBench, caplog: pytest.LogCaptureFixture
) -> None:
    """One start with a clock a year ahead, then the right time again."""
    bench.job(seconds=1)
    await led(bench, 1, 2)
    bench.clock.step_wall_clock(YEAR)
    await led(bench, 2, 3)
    bench.clock.step_wall_clock(-YEAR)
    ran = len(bench.ran)
    async with bench.term(3):
        await bench.clock.advance(10)
        assert len(bench.ran) == ran
        assert bench.context.warning is not None
        assert "jobs do not run until 2027-03-02" in bench.context.warning
        assert "python -m election accept-time" in bench.context.warning
        assert len(logged(caplog, "clock_was_ahead")) == 1
        assert await bench.others.accept_time() == ["job"]
        await bench.until(lambda: len(bench.ran) >= ran + 5)
        assert bench.context.warning is None
    assert bench.clock.now() < at(60)
    assert [row.job_id for row in await bench.others.skips() if row.reason is SkipReason.CLOCK] == ["job"]
    await bench.agrees()
    assert await bench.others.accept_time() == []


async def test_what_ran_while_the_clock_was_ahead_does_not_run_again_when_it_falls_due(bench: TermBench) -> None:
    """The claim stays (P3), and each tick before and after it runs."""
    bench.options |= MINUTES
    bench.job(seconds=10, start_date=NOW)
    bench.clock.step_wall_clock(timedelta(seconds=60))
    await led(bench, 1, 1)
    ahead = bench.ran[0].due
    assert ahead == at(70)
    bench.clock.step_wall_clock(timedelta(seconds=-60))
    assert await bench.others.accept_time() == ["job"]
    async with bench.term(2):
        await bench.until(lambda: bench.ran[-1].due == at(90), limit=120)
    assert [run.due for run in bench.ran] == [ahead, *(at(second) for second in (20, 30, 40, 50, 60, 80, 90))]
    await bench.agrees()


async def test_a_clock_that_is_put_back_while_somebody_leads_is_told_until_it_has_caught_up(bench: TermBench) -> None:
    bench.job(seconds=1)
    async with bench.term():
        await bench.until(lambda: len(bench.ran) >= 3)
        bench.clock.step_wall_clock(timedelta(seconds=-30))
        await bench.until(lambda: bench.context.warning)
        ran = len(bench.ran)
        await bench.until(lambda: bench.context.warning is None)
        assert len(bench.ran) == ran
        await bench.until(lambda: len(bench.ran) > ran)
    await bench.agrees()


async def test_a_clock_that_was_put_forward_and_back_between_two_looks_is_told(bench: TermBench) -> None:
    """The ticks of that moment have run, and are settled."""
    bench.options |= {"poll_interval": 10.0}
    bench.job(seconds=1)
    async with bench.term():
        await bench.until(lambda: len(bench.ran) >= 3)
        bench.clock.step_wall_clock(timedelta(seconds=45))
        await bench.until(lambda: bench.ran[-1].due >= at(45))
        assert bench.clock.now() < at(60)
        bench.clock.step_wall_clock(timedelta(seconds=-45))
        await bench.until(lambda: bench.context.warning, limit=120)
        assert "because the wall clock was ahead" in str(bench.context.warning)


async def test_ticks_that_wait_for_their_turn_while_the_clock_is_put_back_are_told(bench: TermBench) -> None:
    """They are settled, though no code of theirs has begun."""
    bench.options |= {"poll_interval": 10.0}
    go = asyncio.Event()
    begun = []

    async def wait() -> None:
        begun.append(bench.clock.now())
        await go.wait()

    bench.job(wait, seconds=1, overlap="queue_one")
    async with bench.term():
        await bench.until(lambda: begun)
        bench.clock.step_wall_clock(timedelta(seconds=45))
        await bench.clock.advance(3)
        bench.clock.step_wall_clock(timedelta(seconds=-45))
        await bench.until(lambda: bench.context.warning, limit=120)
        go.set()


async def test_a_leader_whose_own_clock_was_ahead_goes_on_when_the_time_is_accepted(bench: TermBench) -> None:
    """Ticks that it has handed over itself do not affect the schedule that begins now."""
    bench.job(seconds=1)
    async with bench.term():
        await bench.until(lambda: len(bench.ran) >= 3)
        bench.clock.step_wall_clock(timedelta(hours=-1))
        await bench.until(lambda: bench.context.warning)
        ran = len(bench.ran)
        await bench.others.accept_time()
        await bench.until(lambda: len(bench.ran) >= ran + 3)
        assert bench.context.warning is None
    await bench.agrees()


def test_a_small_step_is_not_told() -> None:
    job = make_job("interval", seconds=1)
    near, far = state_of(job, until=NOW + TOLERANCE), state_of(job, until=at(3600))
    assert settled_ahead([near], NOW) == {}
    assert settled_ahead([near, far], NOW) == {"job": at(3600)}
    assert describe_ahead({"job": at(3600)}, at(3600)) is None
