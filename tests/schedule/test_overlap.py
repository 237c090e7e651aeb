"""A tick that falls due while max_instances of its job run: skipped, queued, or in place of the oldest run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from election import JobDefinitionError, current_run
from election.schedule.model import Action, Outcome, SkipReason, Tick
from election.schedule.policy import decide
from tests.schedule.making import NOW, at, make_job
from tests.schedule.term_bench import MINUTES, TermBench
from tests.support.waiting import until_async

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("error")]


class Slow:
    """A job that takes a while, and counts its concurrent runs."""

    def __init__(self, bench: TermBench, seconds: float) -> None:
        self.bench, self.seconds = bench, seconds
        self.at_once = self.most = 0

    async def __call__(self) -> None:
        self.bench.ran.append(current_run())
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await self.bench.clock.sleep(self.seconds)
        finally:
            self.at_once -= 1


async def lead(bench: TermBench, fact: Callable[[], Any], *, limit: float = 400.0) -> None:
    """Lead a term until ``fact`` is true, and let time pass until it has ended."""
    bench.options |= MINUTES

    async def leads() -> None:
        async with bench.term():
            await bench.wait(fact)

    leading = asyncio.ensure_future(leads())
    await bench.until(leading.done, limit=limit)
    await leading


async def test_one_tick_waits_for_its_turn_and_the_others_are_skipped(bench: TermBench) -> None:
    slow = Slow(bench, 25)
    bench.registry.add(slow, "interval", seconds=10, id="job", overlap="queue_one")
    await lead(bench, lambda: len(bench.ran) == 4)
    assert [(run.due - NOW).total_seconds() for run in bench.ran] == [10, 20, 40, 60]
    assert slow.most == 1
    assert (await bench.skips())[SkipReason.OVERLAP] >= 2
    assert {run.outcome for run in (await bench.runs())[:3]} == {Outcome.SUCCEEDED}
    await bench.agrees()


async def test_who_waits_for_a_turn_is_not_too_late(bench: TermBench) -> None:
    slow = Slow(bench, 100)
    bench.registry.add(slow, "interval", seconds=60, id="job", overlap="queue_one", misfire_grace_time=5)
    await lead(bench, lambda: len(bench.ran) == 2)
    assert [(run.due - NOW).total_seconds() for run in bench.ran] == [60, 120]
    assert SkipReason.MISFIRED not in await bench.skips()


async def test_a_later_tick_takes_the_place_of_the_one_that_runs(bench: TermBench) -> None:
    """For good: no leader runs it again."""
    slow = Slow(bench, 10_000)
    bench.registry.add(slow, "interval", seconds=10, id="job", overlap="cancel_running", rerun_interrupted=True)
    await lead(bench, lambda: len(bench.ran) == 3)
    before = [(run.outcome, run.error) for run in await bench.runs()]
    cut = (Outcome.INTERRUPTED, "cancelled: a later tick of the job has taken its place")
    assert before[:2] == [cut, cut]
    assert slow.most == 1
    assert await bench.skips() == {}


async def test_of_several_the_oldest_gives_way(bench: TermBench) -> None:
    slow = Slow(bench, 10_000)
    bench.registry.add(slow, "interval", seconds=10, id="job", overlap="cancel_running", max_instances=2)
    await lead(bench, lambda: len(bench.ran) == 4)
    errors = [run.error or "" for run in await bench.runs()]
    assert ["a later tick" in error for error in errors] == [True, True, False, False]
    assert slow.most == 2


async def test_a_back_off_gives_way_too(bench: TermBench) -> None:
    async def fails() -> None:
        bench.ran.append(current_run())
        raise ValueError

    arguments: dict[str, Any] = {"overlap": "cancel_running", "retries": 1, "retry_backoff": 3600}
    bench.registry.add(fails, "interval", seconds=10, id="job", **arguments)
    await lead(bench, lambda: len(bench.ran) == 2)
    (first, *_) = await bench.runs()
    assert (first.outcome, first.attempt) == (Outcome.INTERRUPTED, 2)
    assert [run.attempt for run in bench.ran] == [1, 1]


async def test_a_run_cancelled_in_its_back_off_as_the_leader_resigns_stays_cancelled(bench: TermBench) -> None:
    """Both came in one turn of the event loop, and the next leader ran it again."""

    async def fails() -> None:
        bench.ran.append(current_run())
        raise ValueError

    arguments: dict[str, Any] = {"retries": 1, "retry_backoff": 3600, "rerun_interrupted": True}
    bench.registry.add(fails, "date", id="job", **arguments)
    async with bench.term() as term:
        await bench.until(lambda: term._executor._attempts._back_offs)
        [run] = bench.ran
        assert term._executor.cancel_run(Tick("job", run.due)) is None
    [row] = await bench.runs()
    assert (row.outcome, row.attempt) == (Outcome.INTERRUPTED, 2)


async def test_a_thread_is_waited_for(bench: TermBench) -> None:
    ends = threading.Event()
    bench.thread_waits = True

    def holds() -> None:
        bench.ran.append(current_run())
        ends.wait(60)

    bench.registry.add(holds, "interval", seconds=10, id="job", overlap="cancel_running", misfire_grace_time=None)
    async with bench.term():
        await bench.until(lambda: len(bench.ran) == 1, limit=100)
        await bench.clock.advance(35)
        assert len(bench.ran) == 1
        ends.set()
        await until_async(lambda: len(bench.ran) >= 2)
        bench.thread_waits = False
    outcomes = [run.outcome for run in await bench.runs()]
    assert outcomes[0] is Outcome.SUCCEEDED, "it ran to its end"
    assert [(run.due - NOW).total_seconds() for run in bench.ran[:2]] == [10, 20]


@pytest.mark.extended
async def test_what_waits_at_a_resignation_does_not_begin(bench: TermBench) -> None:
    slow = Slow(bench, 15)
    bench.registry.add(slow, "interval", seconds=10, id="job", overlap="queue_one")
    await lead(bench, lambda: two_are_open(bench))
    assert [(run.outcome, run.error) for run in await bench.runs()] == [
        (Outcome.SUCCEEDED, None),
        (Outcome.INTERRUPTED, "the term was over before it began"),
    ]
    assert len(bench.ran) == 1


async def two_are_open(bench: TermBench) -> bool:
    return len(await bench.runs(outcome="running")) == 2


async def test_a_request_waits_like_a_tick(bench: TermBench) -> None:
    slow = Slow(bench, 20)
    bench.registry.add(slow, "interval", hours=1, id="job", overlap="queue_one")
    asked: list[int] = []

    async def two_have_run() -> bool:
        while len(asked) < 3:
            asked.append(await bench.others.request(Action.RUN, job_id="job"))
        return len(bench.ran) == 2

    await lead(bench, two_have_run)
    assert await bench.skips() == {SkipReason.OVERLAP: 1}
    assert slow.most == 1


@pytest.mark.parametrize(
    ("overlap", "running", "dues", "run", "skipped"),
    [
        ("skip", 1, 1, 0, 1), ("skip", 0, 1, 1, 0),
        ("queue_one", 0, 1, 1, 0), ("queue_one", 1, 1, 1, 0), ("queue_one", 2, 1, 0, 1), ("queue_one", 1, 3, 1, 2),
        ("cancel_running", 1, 1, 1, 0), ("cancel_running", 2, 1, 0, 1),
    ],
)  # fmt: skip
def test_which_ticks_wait(overlap: str, running: int, dues: int, run: int, skipped: int) -> None:
    job = make_job("interval", seconds=1, overlap=overlap, coalesce=False)
    decision = decide(job, [at(second) for second in range(dues)], now=at(dues), running=running)
    assert len(decision.run) == run
    assert sum(skip.count or 0 for skip in decision.skips) == skipped
    assert {skip.reason for skip in decision.skips} <= {SkipReason.OVERLAP}


def test_another_word_is_refused() -> None:
    with pytest.raises(JobDefinitionError, match=r'overlap is "skip" or "queue_one" or "cancel_running", not .queue.'):
        make_job("interval", seconds=1, overlap="queue")
