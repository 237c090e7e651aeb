"""``election.testing``: tests of the helpers that users rely on in their tests."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from election import Election, NotStartedError, current_run
from election.core.errors import SeatError, SeatLostError
from election.core.term import Reason, Standing
from election.testing import ManualClock, MemoryPool, MemorySeat, always_leader, as_run
from tests.support.waiting import until, until_async

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def pool(clock: ManualClock) -> MemoryPool:
    return MemoryPool(clock)


# --- the clock ----------------------------------------------------------------------------------------------------


async def test_time_passes_only_when_told(clock: ManualClock) -> None:
    """Time is injected."""
    began = clock.now()
    sleeping = asyncio.create_task(clock.sleep(10))
    await clock.advance(9.9)
    assert not sleeping.done()
    await clock.advance(0.1)
    assert sleeping.done()
    assert clock.monotonic() == 10
    assert clock.now() == began + timedelta(seconds=10)


async def test_hundreds_wake_in_the_order_of_time_each_at_its_own(clock: ManualClock) -> None:
    """In the order of their times; sleepers of the same time wake in the order in which they began to sleep."""
    woken: list[tuple[float, int]] = []

    async def sleeper(number: int) -> None:
        await clock.sleep(float(number * 7 % 50 + 1))
        woken.append((clock.monotonic(), number))

    tasks = [asyncio.create_task(sleeper(number)) for number in range(500)]
    await clock.advance(50)
    assert all(task.done() for task in tasks)
    assert woken == sorted((number * 7 % 50 + 1, number) for number in range(500))


async def test_what_wakes_may_sleep_again_within_the_same_advance(clock: ManualClock) -> None:
    """The loop settles between two wakes, so that a chain of waits takes exactly its sum."""
    seen = []

    async def beat() -> None:
        for _ in range(4):
            await clock.sleep(1)
            await asyncio.sleep(0)
            seen.append(clock.monotonic())

    beating = asyncio.create_task(beat())
    await clock.advance(3.5)
    assert seen == [1, 2, 3]
    await clock.advance(1)
    assert beating.done()


async def test_who_is_cancelled_sleeps_no_more(clock: ManualClock) -> None:
    """And leaves nothing that would disturb other sleepers."""
    cancelled, other = asyncio.create_task(clock.sleep(1)), asyncio.create_task(clock.sleep(2))
    await clock.settle()
    cancelled.cancel()
    await clock.advance(2)
    assert cancelled.cancelled()
    assert other.done()


async def test_no_time_is_no_wait(clock: ManualClock) -> None:
    await clock.sleep(0)
    await clock.sleep(-1)
    assert clock.monotonic() == 0


async def test_a_loop_that_never_rests_is_told(clock: ManualClock) -> None:
    """A task that never settles is an error instead of a hang."""

    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    spinning = asyncio.create_task(spin())
    with pytest.raises(RuntimeError, match="does not come to rest"):
        await clock.advance(1)
    spinning.cancel()


async def test_time_goes_on_until_a_fact_is_there_and_no_further(clock: ManualClock) -> None:
    seen: list[float] = []

    async def beat() -> None:
        while True:
            await clock.sleep(0.1)
            seen.append(clock.monotonic())

    async def four() -> bool:
        return len(seen) == 4

    beating, cancelled = asyncio.create_task(beat()), asyncio.create_task(clock.sleep(0.05))
    await clock.settle()
    cancelled.cancel()
    assert await clock.advance_until(lambda: seen) is seen
    assert seen == [0.1]
    assert await clock.advance_until(four)
    assert clock.monotonic() == pytest.approx(0.4)
    with pytest.raises(AssertionError, match="not within 1 s of the clock"):
        await clock.advance_until(lambda: len(seen) > 100, limit=1)
    assert clock.monotonic() == pytest.approx(1.3), "the next to wake would do so later"
    beating.cancel()
    with pytest.raises(AssertionError, match="last seen: False"):  # no sleeper is left that more time would wake
        await clock.advance_until(lambda: False)


async def test_a_blocked_loop_wakes_late_and_a_stepped_wall_clock_wakes_nobody(clock: ManualClock) -> None:
    began, woken = clock.now(), []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(clock.monotonic())

    tasks = [asyncio.create_task(sleeper(seconds)) for seconds in (1, 2, 5)]
    await clock.settle()
    clock.step_wall_clock(timedelta(hours=-1))
    await clock.settle()
    assert (woken, clock.monotonic(), clock.now()) == ([], 0, began - timedelta(hours=1))
    clock.block(4)
    await clock.settle()
    assert woken == [4, 4]
    await clock.advance(1)
    assert woken == [4, 4, 5]
    assert clock.now() == began + timedelta(seconds=5) - timedelta(hours=1)
    assert all(task.done() for task in tasks)


async def test_code_that_blocks_beyond_the_end_of_an_advance_does_not_turn_time_back() -> None:
    clock = ManualClock()

    async def blocks() -> None:
        await clock.sleep(1)
        clock.block(10)

    blocking = asyncio.create_task(blocks())
    await clock.advance(2)
    assert clock.monotonic() == 11
    await blocking


async def test_time_stands_still_while_a_thread_is_busy() -> None:
    work: set[Future[bool]] = set()
    clock, may_end = ManualClock(busy=lambda: bool(work)), threading.Event()
    with ThreadPoolExecutor(1) as threads:
        work.add(thread := threads.submit(may_end.wait, 30))
        asyncio.get_running_loop().call_later(0.01, may_end.set)
        asyncio.wrap_future(thread).add_done_callback(lambda _: work.clear())
        await clock.advance(1)
        assert thread.done()


def test_the_clock_works_on_uvloop_as_well() -> None:
    """Both loops. uvloop does not show its ready callbacks, so the clock gives it a fixed number of turns."""
    uvloop = pytest.importorskip("uvloop")

    async def woken() -> list[float]:
        clock, seen = ManualClock(), []

        async def beat() -> None:
            while True:
                await clock.sleep(1)
                for _ in range(20):
                    await asyncio.sleep(0)
                seen.append(clock.monotonic())

        beating = asyncio.create_task(beat())
        await clock.advance(3)
        beating.cancel()
        return seen

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(woken()) == [1, 2, 3]


def test_the_wall_clock_starts_where_it_is_told() -> None:
    begin = datetime(2026, 3, 29, 0, 59, tzinfo=UTC)
    assert ManualClock(begin).now() == begin


# --- the seat -----------------------------------------------------------------------------------------------------


async def two(pool: MemoryPool) -> tuple[MemorySeat, MemorySeat]:
    """Two seats of a pool, the first of which is held."""
    one, other = pool.seat(), pool.seat()
    for seat in (one, other):
        await seat.open()
    assert await one.campaign()
    return one, other


async def test_one_seat_wins_and_the_others_do_not(pool: MemoryPool) -> None:
    """P1; and a lost campaign is a value."""
    one, other = await two(pool)
    assert await other.campaign() is None
    assert one.held() is not None
    assert other.held() is None
    assert (await other.observe()).led
    assert [worker.process for worker in await other.workers()] == [one.process, other.process]


async def test_the_next_term_follows_the_release(pool: MemoryPool, clock: ManualClock) -> None:
    """P2, P6: a greater number for a waiting worker; the record contains the reason."""
    one, other = await two(pool)
    waiting = asyncio.create_task(other.vacancy())
    await clock.advance(60)
    assert not waiting.done()
    await one.release(Standing.RESIGNED)
    await waiting
    term = await other.campaign()
    assert term is not None
    assert (term.number, term.takeover.reason) == (2, Reason.RESIGNED)
    assert term.takeover.from_pid == one.process.pid


async def test_a_crash_frees_the_seat_and_what_crashed_never_acts_again(pool: MemoryPool, clock: ManualClock) -> None:
    """P1: the code of a dead worker changes nothing, whatever it calls, and its calls never return."""
    one, other = await two(pool)
    one.crash()
    assert one.held() is None
    assert not (await other.observe()).led
    term = await other.campaign()
    assert term is not None
    assert term.takeover.reason is Reason.DIED
    calls = [one.campaign(), one.vacancy(), one.beat(), one.confirm(1.0)]
    tasks = [asyncio.ensure_future(call) for call in calls]
    await one.release(Standing.RESIGNED)
    one.tell("begin")
    one.take_away()
    await clock.advance(60)
    assert not any(task.done() for task in tasks)
    assert [line.event for line in pool.history] == ["won", "crashed", "won"]
    assert other.held() == term
    assert [worker.process for worker in await other.workers()] == [other.process]
    for task in tasks:
        task.cancel()


async def test_a_crash_in_the_middle_of_a_release_frees_the_seat_once(pool: MemoryPool, clock: ManualClock) -> None:
    """P1: a dead worker releases nothing, whoever leads meanwhile."""
    one, other = await two(pool)
    one.release_takes = 0.1
    releasing = asyncio.ensure_future(one.release(Standing.RESIGNED))
    await clock.settle()
    one.crash()
    term = await other.campaign()
    await clock.advance(1)
    assert releasing.done()
    assert [line.event for line in pool.history] == ["won", "crashed", "won"]
    assert other.held() == term


async def test_a_seat_that_was_taken_away_is_free_only_after_its_release(pool: MemoryPool) -> None:
    """P1 and P5: the holder notices at its heartbeat, and nobody else leads before its work has ended."""
    one, other = await two(pool)
    other.take_away()  # has none
    one.take_away()
    assert one.held() is None
    with pytest.raises(SeatLostError, match="taken away"):
        await one.beat()
    assert await other.campaign() is None
    await one.release(Standing.LOST)
    assert await other.campaign() is not None


async def test_a_slow_release_holds_the_seat_that_long(pool: MemoryPool, clock: ManualClock) -> None:
    """P1; and the record contains the end of the term already, as on the file engine."""
    one, other = await two(pool)
    one.release_takes = 2.0
    releasing = asyncio.create_task(one.release(Standing.RESIGNED))
    await clock.advance(1)
    assert one.held() is not None
    assert not (await other.observe()).led
    assert await other.campaign() is None
    await clock.advance(1)
    assert releasing.done()
    assert await other.campaign() is not None


@pytest.mark.parametrize("error", [SeatError("disk full"), RuntimeError("anything")], ids=["SeatError", "any"])
async def test_a_seat_raises_what_it_is_told_to(pool: MemoryPool, error: Exception) -> None:
    one, other = await two(pool)
    other.campaign_raises = one.beat_raises = one.release_raises = error
    for call in (other.campaign(), one.beat(), one.release(Standing.RESIGNED)):
        with pytest.raises(type(error), match=str(error)):
            await call
    assert one.held() is not None, "a release that failed has released nothing"
    one.beat_raises = None
    await one.beat()


async def test_a_slow_campaign_finds_what_there_is_at_its_end(pool: MemoryPool, clock: ManualClock) -> None:
    one, other = await two(pool)
    other.campaign_takes = 1.0
    campaign = asyncio.create_task(other.campaign())
    await clock.advance(0.5)
    await one.release(Standing.RESIGNED)
    assert other.held() is None
    await clock.advance(0.5)
    assert campaign.result() is not None


async def test_the_heartbeats_age_is_seen_by_all(pool: MemoryPool, clock: ManualClock) -> None:
    one, other = await two(pool)
    await clock.advance(3)
    assert (await other.observe()).heartbeat_age_s == 3
    await one.beat()
    assert (await other.observe()).heartbeat_age_s == 0


# --- always_leader ------------------------------------------------------------------------------------------------


@pytest.fixture
def election(tmp_path: Path) -> Election:
    return Election(tmp_path / "pool")


@pytest.fixture
def app(election: Election) -> FastAPI:
    app = FastAPI(lifespan=election.lifespan)
    app.include_router(election.router)
    return app


def test_an_application_leads_at_once_and_alone(election: Election, app: FastAPI, tmp_path: Path) -> None:
    """README "Testing your jobs": 200 from the first request on, and no pool directory anywhere."""
    with always_leader(election), TestClient(app) as client:
        answer = client.get("/leader")
        assert answer.status_code == 200
        found = answer.json()
        assert found["state"] == "led"
        assert found["engine"] == "memory"
        assert found["leader"]["pid"] == os.getpid() == found["answered_by"]["pid"]
        assert found["answered_by"]["role"] == "leader"
        assert [worker["role"] for worker in found["workers"]] == ["leader"]
        assert found["problem"] is None
        assert election.is_leader
    assert list(tmp_path.iterdir()) == []
    assert not election.is_leader


async def test_a_program_leads_from_its_first_line_on(election: Election, tmp_path: Path) -> None:
    """Without a single turn of the loop in between; ``check()`` finds no violation."""
    with always_leader(election):
        election.check()
        async with election:
            assert election.is_leader
            assert election.term == 1
        assert not election.is_leader
    assert list(tmp_path.iterdir()) == []


async def test_jobs_and_tasks_run(election: Election) -> None:
    """The parts that users test: a coroutine, a thread, a task, and their run."""
    ran = []
    task = asyncio.Event()

    @election.scheduled_job("interval", seconds=0.02, id="coroutine")
    async def coroutine() -> None:
        ran.append(("coroutine", current_run().term))

    @election.scheduled_job("interval", seconds=0.02, id="thread")
    def thread() -> None:
        ran.append((current_run().job_id, threading.current_thread() is threading.main_thread()))

    @election.while_leading
    async def beside() -> None:
        task.set()

    with always_leader(election):
        async with election:
            await until_async(lambda: {("coroutine", 1), ("thread", False)} <= set(ran), what="both jobs run")
            await until_async(task.is_set, what="the task runs")
    count = len(ran)
    await ManualClock().settle()
    assert len(ran) == count


async def test_it_leads_again_after_a_resignation(election: Election) -> None:
    """P2: always means always, and each term has a new number."""
    with always_leader(election):
        async with election:
            await until_async(lambda: election._member is not None and election._member.elector.role == "leader")
            assert await election.resign()
            await until_async(lambda: election.term == 2, what="the second term")


def test_one_after_the_other(election: Election, app: FastAPI) -> None:
    """A suite starts the same application for each test, in one context or in many."""
    for _ in range(2):
        with always_leader(election):
            for _ in range(2):
                with TestClient(app) as client:
                    assert client.get("/leader").status_code == 200


def test_afterwards_the_election_is_what_it_was(election: Election, app: FastAPI, tmp_path: Path) -> None:
    """Even after an error: the next start takes part in the real pool."""
    before = election._engine
    with pytest.raises(ZeroDivisionError), always_leader(election):
        assert election._engine is not before
        raise ZeroDivisionError
    assert election._engine is before
    with TestClient(app) as client:
        until(lambda: client.get("/leader").status_code == 200, what="it leads the real pool")
        assert client.get("/leader").json()["engine"] == "file"
    assert (tmp_path / "pool").is_dir()


async def test_an_election_that_has_started_is_refused(election: Election) -> None:
    """Its elector has another seat already: an error instead of a half-started leader."""
    with always_leader(election):
        async with election:
            with pytest.raises(RuntimeError, match="start it within always_leader"), always_leader(election):
                pass
            assert election.is_leader


def test_a_jobs_function_can_be_called_by_itself() -> None:
    with as_run("invoices", due=datetime(2026, 11, 23, 4, tzinfo=UTC), term=7, attempt=2) as run:
        assert current_run() is run
        assert (run.key, run.term, run.attempt) == ("invoices@2026-11-23T04:00:00+00:00", 7, 2)
    with pytest.raises(NotStartedError):
        current_run()


def test_the_test_client_raises_no_warning() -> None:
    """docs/pitfalls.md#36: in a suite whose warnings are errors, from the first import on."""
    program = "from fastapi.testclient import TestClient; from app.main import app; TestClient(app).close()"
    subprocess.run([sys.executable, "-W", "error", "-c", program], cwd=ROOT, check=True, timeout=60)
