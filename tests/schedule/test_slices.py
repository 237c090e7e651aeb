"""Jobs are planned in slices, between which the event loop runs, however many jobs a pool has."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from election.core.errors import LedgerError
from election.schedule import term_jobs, term_scheduler
from election.schedule.commands import Entry, SetNextDue
from election.schedule.jobs import JobRegistry
from election.schedule.model import Action, JobState, OpenRun, Request, State, StoredJob, Tick
from election.schedule.plan import Plan, make_plan
from election.schedule.stored import load_jobs, to_store
from election.schedule.term_jobs import TermJobs
from tests.schedule import stored_functions
from tests.schedule.making import NOW, at, make_job, state_of
from tests.schedule.term_bench import TermBench

pytestmark = pytest.mark.anyio

FUNC = f"{stored_functions.__name__}:remember_soon"
COUNT = 11


@pytest.fixture(autouse=True)
def slices_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    stored_functions.CALLS.clear()
    monkeypatch.setattr(term_jobs, "SLICE", 2)


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """Ids of the jobs of each plan, in order."""
    made: list[set[str]] = []

    def note(jobs: Mapping[str, Any], *arguments: Any, **more: Any) -> Plan:
        made.append(set(jobs))
        return make_plan(jobs, *arguments, **more)

    monkeypatch.setattr(term_scheduler, "make_plan", note)
    return made


async def store(bench: TermBench, *, due: float = 3600) -> list[str]:
    """Add ``COUNT`` one-shot jobs, due in so many seconds; return their ids."""
    ids = [f"stored{number:02}" for number in range(COUNT)]
    for job_id in ids:
        run_date = bench.clock.now() + timedelta(seconds=due)
        stored = to_store(bench.registry, FUNC, "date", id=job_id, run_date=run_date)
        await bench.others.store_job(job_id, *stored)
    return ids


async def test_p4_every_job_is_planned_and_runs_once(bench: TermBench, planned: list[set[str]]) -> None:
    """A few at a time, jobs of the code first."""
    bench.job(seconds=1, id="steady")
    ids = await store(bench, due=2)
    async with bench.term(1) as term:
        assert planned == [{"steady", ids[0]}]
        await bench.until(lambda: not term._jobs.pending)
        assert max(map(len, planned)) == 2
        assert set().union(*planned) == {"steady", *ids}
        await bench.until(lambda: len(stored_functions.CALLS) == COUNT)
    assert {run.job_id for run in await bench.runs()} == {"steady", *ids}
    await bench.agrees()


async def test_a_change_of_many_jobs_is_taken_in_slices_too(bench: TermBench, planned: list[set[str]]) -> None:
    bench.job(seconds=1, id="steady")
    async with bench.term(1) as term:
        ids = set(await store(bench))
        await bench.until(lambda: ids <= term._jobs.progress.keys())
        assert max(map(len, planned)) <= 2


async def test_p3_while_it_is_not_known_what_was_paused_nothing_goes_on(bench: TermBench) -> None:
    """After an unreachable ledger the jobs continue when all of them have been planned."""
    bench.job(seconds=3600, id="steady")
    ids = await store(bench, due=2)
    async with bench.term(1) as term:
        await bench.until(lambda: not term._jobs.pending)
        bench.ledger.fault = LedgerError("away")
        await bench.until(lambda: term.problem)
        for job_id in ids:
            await bench.others.pause(job_id, paused=True)
        await bench.until(lambda: bench.clock.now() > at(2.1))
        bench.ledger.fault = None
        await bench.until(lambda: term.problem is None and not term._jobs.pending)
        await bench.until(lambda: bench.clock.now() > at(30))
        assert stored_functions.CALLS == []


async def test_a_request_for_a_job_that_is_pending_does_not_wait(bench: TermBench, planned: list[set[str]]) -> None:
    ids = await store(bench)
    await bench.others.request(Action.RUN, job_id=ids[-1])
    async with bench.term(1):
        assert planned == [{ids[-1], *ids[:2]}]
        await bench.until(lambda: len(stored_functions.CALLS) == 1)


# --- the slices by themselves ----------------------------------------------------------------------------------------


class NoScheduler:
    def drop(self, progress: Any) -> None: ...


@pytest.fixture
def jobs(bench: TermBench) -> TermJobs:
    bench.job(id="steady")

    async def find(ids: list[str]) -> list[JobState]:
        return stored_states(*reversed(ids))

    return TermJobs(bench.registry, NoScheduler(), None, bench.clock, find)  # type: ignore[arg-type]


def stored_states(*ids: str) -> list[JobState]:
    return [replace(state_of(make_job(seconds=5, id=each)), stored=StoredJob(FUNC, {}, {})) for each in ids]


def ids_of(state: State | None) -> list[str]:
    assert state is not None
    return [job.id for job in state.jobs]


async def test_what_a_change_tells_of_a_pending_job_replaces_what_was_read_before(jobs: TermJobs) -> None:
    """P3: a job that was removed meanwhile is not planned by its former state."""
    await jobs.take(State(stored_states("a", "b", "c", "d", "e"), [], []))  # plans steady and a
    removed = replace(stored_states("d")[0], removed=True)
    change = await jobs.take(State([removed], [], [], about=frozenset({"d"})))
    assert change.jobs == [removed]
    assert ids_of(await jobs.next_slice()) == ["b", "c"]
    assert ids_of(await jobs.next_slice()) == ["e"]
    assert await jobs.next_slice() is None


async def test_a_new_look_at_everything_replaces_what_was_pending(jobs: TermJobs) -> None:
    await jobs.take(State(stored_states("a", "b", "c", "d", "e"), [], []))
    whole = await jobs.take(State(stored_states("e", "f"), [], []))
    assert ids_of(whole) == ["e"]
    assert whole.about == {"steady", "e"}
    assert ids_of(await jobs.next_slice()) == ["f"]
    assert await jobs.next_slice() is None


async def test_loading_a_slice_looks_at_its_own_jobs_only(bench: TermBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for each slice, a look at every job made planning quadratic."""
    for job_id in ("steady", "often", "rare"):
        bench.job(id=job_id)
    monkeypatch.setattr(JobRegistry, "__iter__", None)
    jobs, unloaded = load_jobs(
        bench.registry, State(stored_states("b"), [], [], about=frozenset({"b", "rare", "often"}))
    )
    assert (list(jobs), unloaded) == (["often", "rare", "b"], {})


async def test_what_cannot_wait_comes_first(jobs: TermJobs) -> None:
    """Open runs and requests; then jobs of some worker's code."""
    of_code = [
        state_of(make_job(seconds=5, id=each), until=at(due)) for each, due in {"daily": -9, "often": -1}.items()
    ]
    states = [*stored_states("a", "b", "c", "run", "wanted"), *of_code]
    request = Request(1, Action.RUN, "wanted", None, NOW)
    first = await jobs.take(State(states, [request], [OpenRun(Tick("run", NOW), 1, 1, 0)]))
    assert ids_of(first) == ["run", "wanted", "often", "daily"]
    assert ids_of(await jobs.next_slice()) == ["steady", "a"]
    assert ids_of(await jobs.next_slice()) == ["b", "c"]


async def test_what_was_not_read_yet_is_read_in_slices_of_the_same_size(jobs: TermJobs) -> None:
    """A job of the code that was added at run time before is read at once: it is not new (P3)."""
    first = await jobs.take(State(stored_states("a"), [], [], rest=["b", "steady", "c", "d"]))
    assert ids_of(first) == ["steady", "a"]
    assert list(jobs.pending) == ["b", "c", "d"]
    await jobs.take(State(stored_states("c"), [], [], about=frozenset({"c"})))
    assert ids_of(await jobs.next_slice()) == ["b", "d"]
    assert await jobs.next_slice() is None


async def test_what_is_due_soonest_comes_first(jobs: TermJobs) -> None:
    dues = {"a": 9, "b": 3, "c": 5, "e": 1}
    states = [replace(found, next_due=at(dues[found.id])) for found in stored_states(*dues)]
    assert ids_of(await jobs.take(State([*stored_states("d"), *states], [], []))) == ["e"]
    assert ids_of(await jobs.next_slice()) == ["b", "c"]
    assert ids_of(await jobs.next_slice()) == ["a", "d"]


async def test_a_hint_is_written_once_and_moves_with_the_ticks(bench: TermBench) -> None:
    """So that a leader without changes writes nothing."""
    bench.job(seconds=3600, id="steady")
    stored = to_store(bench.registry, FUNC, "interval", id="often", seconds=2)
    await bench.others.store_job("often", *stored)

    async def hint() -> datetime | None:
        (found,) = await bench.others.find_jobs(["often"])
        return found.next_due

    assert await hint() == bench.clock.now() + timedelta(seconds=2)
    async with bench.term(1):
        await bench.until(lambda: len(stored_functions.CALLS) == 2)
    due = await hint()
    assert due == at(6)
    written: list[object] = []
    real = bench.ledger.record

    async def note(term: int, entries: Sequence[Entry]) -> list[bool]:
        written.extend(entries)
        return await real(term, entries)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.ledger, "record", note)
        async with bench.term(2) as term:
            await bench.until(lambda: "often" in term._jobs.progress)
    assert [entry for entry in written if isinstance(entry, SetNextDue)] == []


async def test_between_two_slices_the_event_loop_goes_on(bench: TermBench, planned: list[set[str]]) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    await store(bench)
    counting = asyncio.create_task(count())
    at_plan: list[int] = []
    async with bench.term(1) as term:
        while term._jobs.pending:
            if len(at_plan) < len(planned):
                at_plan.append(turns)
            await asyncio.sleep(0)
    counting.cancel()
    assert all(later > earlier for earlier, later in itertools.pairwise(at_plan))
    assert len(at_plan) >= COUNT // 2 - 1


async def test_a_job_of_the_code_can_be_run_before_it_was_ever_planned(bench: TermBench) -> None:
    """The request was refused: there is no such job any more."""
    for number in range(COUNT):
        bench.job(seconds=3600, id=f"job{number:02}")
    last = f"job{COUNT - 1:02}"
    await bench.others.request(Action.RUN, job_id=last, is_known=True)
    async with bench.term(1):
        await bench.until(lambda: [run.job_id for run in bench.ran] == [last])


async def test_broken_jobs_are_tried_again_in_slices(bench: TermBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of them, after a deploy, kept the event loop for seconds at each try; a leader may lose its lease."""
    ids = await store(bench)
    loaded: list[int] = []
    is_broken = True

    def load(registry: JobRegistry, state: State, *_: object) -> tuple[dict[str, Any], dict[str, str]]:
        loaded.append(len(state.jobs))
        if is_broken:
            return {}, {found.id: "its module is gone" for found in state.jobs}
        return load_jobs(registry, state)

    monkeypatch.setattr(term_scheduler, "load_jobs", load)
    async with bench.term(1) as term:
        await bench.until(lambda: len(term._jobs.broken._errors) == COUNT)
        is_broken = False
        await bench.until(lambda: term._jobs.loaded == set(ids))
    assert max(loaded) == 2
