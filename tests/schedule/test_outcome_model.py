"""Outcomes of random jobs against a model of the table in docs/ledger.md: who ended an attempt decides how it ended."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from election import current_run
from election.core.events import RunFailed, RunInterrupted, RunStarted, RunSucceeded
from tests.schedule.making import NOW
from tests.schedule.term_bench import TermBench

TERM_S, DRAIN_S, POLL_S = 0.53, 0.17, 5.0


class _OddError(BaseException):
    """Error that an ``except Exception`` does not catch."""


ENDINGS: dict[str, Callable[[], object]] = {
    "returns": lambda: None,
    "raises": lambda: 1 / 0,
    "exits": lambda: sys.exit(3),
    "raises a BaseException": lambda: (_ for _ in ()).throw(_OddError()),
    "cancels itself": lambda: (_ for _ in ()).throw(asyncio.CancelledError()),
}


@dataclass(frozen=True)
class Case:
    """One job and one term.

    Attributes:
        kind: Kind of its function.
        endings: How each attempt ends if it is not cut short; the last one repeats.
        takes: Seconds that an attempt takes if it is not cut short.
        on_cancel: Reaction of its code to a cancellation.
        timeout, retries, rerun: Options of the job.
        term: Whole seconds that the first term lasts.
        drain: Whole seconds that its drain lasts at most.
    """

    kind: str
    endings: tuple[str, ...]
    takes: int
    on_cancel: str
    timeout: float | None
    retries: int
    rerun: bool
    term: int
    drain: int

    def ending(self, attempt: int) -> str:
        return self.endings[min(attempt, len(self.endings)) - 1]


CASES = st.builds(
    Case,
    kind=st.sampled_from(["coroutine", "returns a coroutine"]),
    endings=st.lists(st.sampled_from(sorted(ENDINGS)), min_size=1, max_size=3).map(tuple),
    takes=st.integers(0, 5),
    on_cancel=st.sampled_from(["passes on", "swallows", "raises"]),
    timeout=st.sampled_from([None, 1.25, 3.25]),
    retries=st.integers(0, 3),
    rerun=st.booleans(),
    term=st.integers(0, 12),
    drain=st.integers(0, 4),
)

Step = tuple[int, int, str]
"""Term, attempt and event."""


def expected(case: Case) -> tuple[list[Step], str]:
    """Events of the run, and its outcome, by the rules of the table alone."""
    steps: list[Step] = []
    term, attempt, now = 1, 1, 0.0
    ends = case.term + TERM_S
    cancelled = ends + case.drain + DRAIN_S
    while True:
        steps.append((term, attempt, "started"))
        in_time = case.timeout is None or case.takes <= case.timeout
        now += case.takes if in_time else case.timeout or 0
        interrupted = now > cancelled
        if not interrupted and in_time and case.ending(attempt) == "returns":
            return [*steps, (term, attempt, "succeeded")], "succeeded"
        if not interrupted:
            steps.append((term, attempt, "failed"))
            if attempt > case.retries or now > ends:
                return steps, "failed"
            now += 2.0 ** (attempt - 1)
            attempt += 1
            if now <= ends:
                continue
        steps.append((term, attempt, "interrupted"))
        if not case.rerun:
            return steps, "interrupted"
        if term == 1:
            steps.append((2, attempt, "interrupted"))  # reported again by the leader that settles it
        term, attempt, now, ends, cancelled = 2, attempt + 1, 0.0, float("inf"), float("inf")


NAMES = {RunStarted: "started", RunSucceeded: "succeeded", RunFailed: "failed", RunInterrupted: "interrupted"}


async def _observed(case: Case) -> tuple[list[Step], str]:
    with tempfile.TemporaryDirectory() as folder:
        bench = TermBench(Path(folder))
        bench.options |= {"drain_timeout": case.drain + DRAIN_S, "poll_interval": POLL_S}

        async def work() -> None:
            ending = ENDINGS[case.ending(current_run().attempt)]
            try:
                await bench.clock.sleep(case.takes)
            except asyncio.CancelledError:
                if case.on_cancel == "swallows":
                    return
                if case.on_cancel == "raises":
                    raise RuntimeError("tidied up") from None
                raise
            ending()

        def hands_on() -> object:
            return work()

        func: Callable[..., Any] = work if case.kind == "coroutine" else hands_on
        options: dict[str, Any] = {"timeout": case.timeout, "retries": case.retries, "rerun_interrupted": case.rerun}
        bench.registry.add(func, "date", run_date=NOW, id="job", **options)

        async def lead() -> None:
            async with bench.term(1):
                await bench.clock.sleep(case.term + TERM_S)

        try:
            leading = asyncio.ensure_future(lead())
            await bench.until(leading.done, limit=100)
            leading.result()
            async with bench.term(2) as second:
                await bench.until(lambda: _ended(bench), limit=300)
                assert second.unfinished() == []
            [run] = await bench.runs()
            assert await bench.others.open_runs() == []
            assert run.outcome is not None
            steps = [(event.term, event.attempt, NAMES[type(event)]) for event in bench.events if type(event) in NAMES]
            return steps, run.outcome.value
        finally:
            await bench.close()


async def _ended(bench: TermBench) -> bool:
    return all(run.outcome is not None for run in await bench.runs())


@settings(max_examples=60, deadline=None, derandomize=True)
@given(case=CASES)
def test_every_run_ends_as_the_table_says(case: Case) -> None:
    assert asyncio.run(_observed(case)) == expected(case)


@pytest.mark.extended
@pytest.mark.timeout(900)
@settings(max_examples=300, deadline=None, derandomize=True)
@given(case=CASES)
def test_every_run_ends_as_the_table_says_at_length(case: Case) -> None:
    assert asyncio.run(_observed(case)) == expected(case)
