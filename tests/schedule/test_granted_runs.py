"""Runs between the grant of their claim and their code; the times at which their code ran."""

from __future__ import annotations

import asyncio
import threading

import pytest

from election.core.clock import SystemClock
from election.core.events import RunInterrupted, RunOverlong
from election.schedule.commands import FinishRun
from election.schedule.model import Outcome, Span
from election.testing import ManualClock
from tests.schedule.granting import GrantedRuns
from tests.support.waiting import until_async

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("is_coroutine", [True, False])
async def test_p5_a_term_that_ends_before_the_code_begins(is_coroutine: bool) -> None:
    """The code does not begin, the run is settled as never begun, and its thread is free again."""
    ran: list[bool] = []

    async def coroutine() -> None:
        ran.append(True)

    runs = GrantedRuns(coroutine if is_coroutine else lambda: ran.append(True), ManualClock())
    runs.ask()
    await asyncio.sleep(0)  # granted
    runs.executor.close()
    runs.executor.cancel()
    await runs.executor.wait()
    assert not ran
    (settled,) = runs.writer.written
    assert isinstance(settled, FinishRun)
    assert (settled.outcome, settled.started_at) == (Outcome.INTERRUPTED, None)
    assert settled.error == "the term was over before it began"
    assert [type(event) for event in runs.events] == [RunInterrupted], "nor was it said to have started"
    assert runs.runner.take_thread()


async def test_p5_it_is_waited_for_though_its_run_was_cancelled_by_other_code() -> None:
    """A job that cancels the other tasks of the loop also ends the one that would have settled it."""
    goes_on = asyncio.Event()

    async def cancels_all() -> None:
        for task in asyncio.all_tasks():
            if task.get_name() == "job":
                task.cancel()
        await goes_on.wait()

    runs = GrantedRuns(cancels_all, SystemClock())
    runs.ask()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting = asyncio.ensure_future(runs.executor.wait())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done()
    goes_on.set()
    await waiting


async def test_a_run_that_begins_with_the_clock_has_its_duration() -> None:
    clock = ManualClock()

    async def sleeps() -> None:
        await clock.sleep(3)

    runs = GrantedRuns(sleeps, clock)
    runs.ask()
    await clock.advance(3)
    await runs.executor.wait()
    assert [entry.span for entry in runs.writer.written if isinstance(entry, FinishRun)] == [Span(0, 3_000_000)]


async def test_overlong_counts_from_the_beginning_of_the_code() -> None:
    """Also if the code blocks the event loop at first."""
    clock = ManualClock()

    async def blocks_first() -> None:
        clock.block(4)
        await clock.sleep(3)

    runs = GrantedRuns(blocks_first, clock, expected=5)
    runs.ask()
    await clock.settle()
    await clock.advance(3)
    await runs.executor.wait()
    assert len([event for event in runs.events if isinstance(event, RunOverlong)]) == 1


async def test_threads_are_given_in_the_order_of_asking() -> None:
    """A run that comes when a thread is free, but somebody waits for it, waits behind."""
    gates = {number: threading.Event() for number in (1, 2, 3)}
    order: list[int] = []
    numbers = iter(gates)

    def waits() -> None:
        number = next(numbers)
        order.append(number)
        gates[number].wait(60)

    runs = GrantedRuns(waits, SystemClock(), max_instances=3)
    runs.ask(1)
    await until_async(lambda: order == [1])
    runs.ask(2)
    await until_async(lambda: runs.executor.queued() == ["job"])
    gates[1].set()
    runs.ask(3)
    await until_async(lambda: order == [1, 2])
    assert runs.executor.queued() == ["job"]
    for gate in gates.values():
        gate.set()
    await runs.executor.wait()
    requests = [entry.tick.request for entry in runs.writer.written if isinstance(entry, FinishRun)]
    assert requests == [1, 2, 3]
    assert runs.runner.take_thread()
