"""Events that alert an operator: late, overlong, failing and recovered."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest

from election import JobDefinitionError
from election.core.events import Event, JobFailing, JobRecovered, RunLate, RunOverlong
from tests.schedule.making import NOW, at
from tests.schedule.term_bench import MINUTES, TermBench
from tests.support.logs import logged
from tests.support.waiting import until_async

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("error")]


@pytest.fixture(autouse=True)
def _minutes_pass(bench: TermBench) -> None:
    bench.options |= MINUTES


def of(bench: TermBench, *kinds: type[Event]) -> list[Any]:
    return [event for event in bench.events if isinstance(event, kinds)]


class FlakyJob:
    """A job that fails a given number of times."""

    def __init__(self) -> None:
        self.failures = 0
        self.ran = 0

    async def __call__(self) -> None:
        self.ran += 1
        if self.failures > 0:
            self.failures -= 1
            raise ValueError(f"failure {self.ran}")


async def test_failing_is_told_once_and_recovery_too(bench: TermBench, caplog: pytest.LogCaptureFixture) -> None:
    flaky = FlakyJob()
    bench.registry.add(flaky, "interval", seconds=10, id="job")
    flaky.failures = 5
    async with bench.term():
        await bench.until(lambda: flaky.ran == 7, limit=100)
    failing, recovered = of(bench, JobFailing, JobRecovered)
    assert (failing.job_id, failing.failures, failing.error) == ("job", 3, "ValueError: failure 3")
    assert (recovered.job_id, recovered.failures) == ("job", 5)
    assert [len(logged(caplog, name)) for name in ("job_failing", "job_recovered")] == [1, 1]


async def test_two_failures_are_no_trend(bench: TermBench) -> None:
    flaky = FlakyJob()
    bench.registry.add(flaky, "interval", seconds=10, id="job")
    async with bench.term():
        for _ in range(3):
            flaky.failures, before = 2, flaky.ran
            await bench.until(lambda before=before: flaky.ran == before + 3, limit=100)  # type: ignore[misc]
    assert of(bench, JobFailing, JobRecovered) == []


async def test_one_failure_is_enough_where_the_job_says_so_and_retries_are_none(bench: TermBench) -> None:
    flaky = FlakyJob()
    bench.registry.add(flaky, "interval", seconds=60, id="job", failing_after=1, retries=2, retry_backoff=1)
    flaky.failures = 2
    async with bench.term():
        await bench.until(lambda: flaky.ran == 3, limit=100)
        assert of(bench, JobFailing) == [], "the third attempt has succeeded, and so has the run"
        flaky.failures = 3
        await bench.until(lambda: of(bench, JobFailing), limit=100)
        await bench.until(lambda: of(bench, JobRecovered), limit=100)


async def test_the_next_leader_goes_on_counting(bench: TermBench) -> None:
    flaky = FlakyJob()
    bench.registry.add(flaky, "interval", seconds=10, id="job")
    flaky.failures = 4
    async with bench.term(1):
        await bench.until(lambda: flaky.ran == 2, limit=100)
    assert of(bench, JobFailing) == []
    async with bench.term(2) as term:
        await bench.until(term._background[2].task.done)
        await bench.until(lambda: flaky.ran == 3, limit=100)
        await bench.until(lambda: of(bench, JobFailing), limit=1)
        assert of(bench, JobFailing)[0].failures == 3
    async with bench.term(3) as term:
        await bench.until(term._background[2].task.done)
        await bench.until(lambda: flaky.ran == 5, limit=100)
        await bench.until(lambda: of(bench, JobRecovered), limit=1)
        assert (len(of(bench, JobFailing)), of(bench, JobRecovered)[0].failures) == (1, 4)


async def test_a_job_may_recover_before_it_is_read_that_it_was_failing(bench: TermBench) -> None:
    flaky = FlakyJob()
    bench.registry.add(flaky, "interval", seconds=10, id="job")
    flaky.failures = 3
    async with bench.term(1):
        await bench.until(lambda: len(of(bench, JobFailing)) == 1, limit=100)
    await bench.clock.advance(9.9 - (bench.clock.now() - NOW).total_seconds() % 10)
    async with bench.term(2) as term:
        await bench.until(lambda: flaky.ran == 4, limit=1)
        assert not term._background[2].task.done()
        await bench.until(lambda: of(bench, JobRecovered), limit=2)
    assert [event.failures for event in of(bench, JobRecovered)] == [3]


@pytest.mark.parametrize(("failing_after", "told"), [(3, [3]), (2, [2]), (4, [])])
async def test_a_job_may_fail_before_it_is_read_that_it_was_failing(
    bench: TermBench, failing_after: int, told: list[int]
) -> None:
    """The third failure comes in the first second of a term: it is told if it is the one, and not told again."""
    flaky = FlakyJob()
    bench.registry.add(flaky, "interval", seconds=10, id="job", failing_after=failing_after)
    flaky.failures = 3
    async with bench.term(1):
        await bench.until(lambda: flaky.ran == 2, limit=100)
    await bench.clock.advance(9.9 - (bench.clock.now() - NOW).total_seconds() % 10)
    async with bench.term(2) as term:
        await bench.until(lambda: flaky.ran == 3, limit=1)
        assert not term._background[2].task.done()
        await bench.until(term._background[2].task.done)
    assert [event.failures for event in of(bench, JobFailing)] == told


async def test_a_job_may_fail_and_recover_before_earlier_terms_are_read(bench: TermBench) -> None:
    flaky = FlakyJob()
    bench.registry.add(flaky, "interval", seconds=0.1, id="job")
    flaky.failures = 3
    async with bench.term():
        await bench.until(lambda: flaky.ran == 4, limit=1)
        assert of(bench, JobFailing, JobRecovered) == []
        await bench.until(lambda: of(bench, JobRecovered), limit=2)
        flaky.failures = 3
        await bench.until(lambda: len(of(bench, JobRecovered)) == 2, limit=2)
    assert [event.failures for event in of(bench, JobFailing, JobRecovered)] == [3, 3, 3, 3]
    assert [type(event) for event in of(bench, JobFailing, JobRecovered)] == [JobFailing, JobRecovered] * 2


async def test_a_run_that_takes_longer_than_expected_is_told_while_it_runs(bench: TermBench) -> None:
    ends = asyncio.Event()
    bench.registry.add(ends.wait, "date", id="job", expected=5)
    async with bench.term():
        await bench.until(lambda: of(bench, RunOverlong))
        assert bench.clock.now() - NOW >= timedelta(seconds=5)
        ends.set()
        await bench.until(lambda: not bench.leading or not bench.leading.unfinished())
    (event,) = of(bench, RunOverlong)
    assert (event.job_id, event.attempt, event.expected_s) == ("job", 1, 5)


async def test_one_that_ends_in_time_is_not(bench: TermBench) -> None:
    bench.job(seconds=10, expected=5)
    async with bench.term():
        await bench.until(lambda: len(bench.ran) == 3, limit=100)
    assert of(bench, RunOverlong, RunLate) == []


async def test_a_run_that_waits_for_a_thread_is_late_while_it_waits(bench: TermBench) -> None:
    bench.options["max_threads"] = 1
    bench.thread_waits = True
    ends = threading.Event()

    def holds() -> None:
        ends.wait(60)

    bench.registry.add(holds, "date", run_date=at(1), id="a")
    bench.registry.add(holds, "date", run_date=at(1), id="b", late_after=5, misfire_grace_time=None)
    bench.registry.add(holds, "date", run_date=at(1), id="c", late_after=None, misfire_grace_time=None)
    async with bench.term():
        await bench.until(lambda: of(bench, RunLate))
        assert bench.clock.now() - at(1) >= timedelta(seconds=5)
        ends.set()
        bench.thread_waits = False
        assert bench.leading is not None
        await until_async(lambda: bench.leading is not None and not bench.leading.unfinished())
    (event,) = of(bench, RunLate)
    assert (event.job_id, event.late_s >= 5) == ("b", True)


async def test_a_run_that_is_caught_up_with_is_late_when_it_begins(bench: TermBench) -> None:
    bench.job(seconds=60, misfire_grace_time=None, late_after=20)
    async with bench.term(1):
        await bench.until(lambda: len(bench.ran) == 1, limit=100)
    await bench.clock.advance(90)  # nobody leads
    async with bench.term(2):
        await bench.until(lambda: len(bench.ran) == 2, limit=100)
    (event,) = of(bench, RunLate)
    assert event.late_s == pytest.approx(30, abs=5)


@pytest.mark.parametrize("wrong", [{"late_after": 0}, {"expected": -1}, {"failing_after": 0}])
async def test_what_makes_no_sense_is_refused(bench: TermBench, wrong: dict[str, Any]) -> None:
    with pytest.raises(JobDefinitionError, match=f"^job 'job': {next(iter(wrong))} is a (whole )?number"):
        bench.registry.add(print, "interval", seconds=1, id="job", **wrong)
