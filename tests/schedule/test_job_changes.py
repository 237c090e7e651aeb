"""Group commit of changes of jobs: concurrent calls share transactions, and no call spoils another's."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from election import Election
from election.core.errors import JobDefinitionError, LedgerError, UnknownJobError
from election.schedule import job_changes
from election.schedule.commands import Command, ExpectJob, PauseJob
from election.schedule.job_changes import JobChanges, JobPlan
from election.schedule.model import JobState
from election.schedule.store import UnmetConditionError
from tests.schedule import stored_functions
from tests.schedule.making import NOW, until

pytestmark = pytest.mark.anyio

FUNC = f"{stored_functions.__name__}:remember_soon"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class FakeStore:
    """A store without jobs, whose writes can be held up and can fail."""

    def __init__(self) -> None:
        self.reads: list[list[str]] = []
        self.writes: list[list[str]] = []
        self.faults: list[Exception] = []
        self.busy: set[str] = set()
        """Jobs that another process changes before each write."""
        self.unwritable: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()

    async def find_jobs(self, job_ids: Sequence[str]) -> list[JobState]:
        self.reads.append(list(job_ids))
        return []

    async def write(self, commands: Sequence[Command], *, term: int | None) -> list[Any]:
        await self.gate.wait()
        if self.faults:
            raise self.faults.pop(0)
        named = {command.job_id for command in commands if isinstance(command, PauseJob)}
        if named & self.busy:
            raise UnmetConditionError("changed")
        if named & self.unwritable:
            raise UnicodeError("no text")
        self.writes.append([command.job_id for command in commands if isinstance(command, PauseJob)])
        assert [command.job_id for command in commands if isinstance(command, ExpectJob)] == self.writes[-1]
        return [True] * len(commands)


class Changes:
    """Changes over a fake store, each a pause of one job."""

    def __init__(self) -> None:
        self.store = FakeStore()
        store: Any = self.store
        self.changes = JobChanges(store)

    def begin(self, *job_ids: str, error: Exception | None = None) -> asyncio.Task[None]:
        def plan(job_id: str) -> JobPlan:
            def commands(found: JobState | None) -> list[Command]:
                if error is not None:
                    raise error
                return [PauseJob(job_id, NOW)]

            return commands

        return asyncio.create_task(self.changes.make({job_id: plan(job_id) for job_id in job_ids}))


@pytest.fixture
async def bench() -> Changes:
    return Changes()


async def test_changes_that_come_during_a_write_share_the_next_one(bench: Changes) -> None:
    bench.store.gate.clear()
    first = bench.begin("first")
    await until(lambda: bench.store.reads)
    others = [bench.begin(f"job-{number}") for number in range(50)]
    await asyncio.sleep(0)
    bench.store.gate.set()
    await asyncio.gather(first, *others)
    assert [len(write) for write in bench.store.writes] == [1, 50]


async def test_two_changes_of_a_job_are_made_one_after_the_other(bench: Changes) -> None:
    await asyncio.gather(bench.begin("a", "b"), bench.begin("c"), bench.begin("b"), bench.begin("d"))
    assert bench.store.writes == [["a", "b", "c"], ["b", "d"]]


async def test_a_transaction_has_no_more_jobs_than_may_keep_others_waiting(
    bench: Changes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_changes, "MAX_JOBS_PER_WRITE", 3)
    await asyncio.gather(bench.begin("a", "b"), bench.begin("c", "d"), bench.begin("e"), bench.begin(*"fghij"))
    assert bench.store.writes == [["a", "b"], ["c", "d", "e"], ["f", "g", "h", "i", "j"]]


async def test_an_error_is_that_of_its_own_call(bench: Changes) -> None:
    good, bad = bench.begin("good"), bench.begin("bad", error=JobDefinitionError("no"))
    with pytest.raises(JobDefinitionError, match="no"):
        await bad
    await good
    assert bench.store.writes == [["good"]]


async def test_a_write_that_fails_fails_all_of_its_changes_and_no_later_one(bench: Changes) -> None:
    bench.store.faults = [LedgerError("locked")]
    one, other = await asyncio.gather(bench.begin("a"), bench.begin("b"), return_exceptions=True)
    assert isinstance(one, LedgerError)
    assert isinstance(other, LedgerError)
    assert one is not other, "each caller adds to its own traceback"
    assert str(one) == str(other) == "locked"
    await bench.begin("c")
    assert bench.store.writes == [["c"]]


async def test_a_job_that_others_change_all_the_time_is_given_up(bench: Changes) -> None:
    bench.store.faults = [UnmetConditionError("changed")] * 3
    await bench.begin("a")
    assert bench.store.reads == [["a"]] * 4
    bench.store.faults = [UnmetConditionError("changed")] * job_changes.MAX_TRIES
    with pytest.raises(LedgerError, match="keep changing at least one of these jobs; try again: 'b'"):
        await bench.begin("b")
    await bench.begin("c")


async def test_a_job_that_others_change_all_the_time_spoils_no_other(bench: Changes) -> None:
    bench.store.faults = [UnmetConditionError("changed")] * (2 * job_changes.MAX_TRIES)
    hot, calm = bench.begin("hot"), bench.begin("calm")
    with pytest.raises(LedgerError, match="keep changing"):
        await hot
    await calm
    assert bench.store.writes == [["calm"]]


async def test_a_call_that_is_cancelled_is_left_out(bench: Changes) -> None:
    bench.store.gate.clear()
    first = bench.begin("first")
    await until(lambda: bench.store.reads)
    second, third = bench.begin("second"), bench.begin("third")
    await asyncio.sleep(0)
    second.cancel()
    bench.store.gate.set()
    await asyncio.gather(first, third)
    assert second.cancelled()
    assert bench.store.writes == [["first"], ["third"]]


async def test_closing_ends_all_that_wait(bench: Changes) -> None:
    bench.store.gate.clear()
    waiting = [bench.begin("a")]
    await until(lambda: bench.store.reads)
    waiting.append(bench.begin("b"))
    await asyncio.sleep(0)
    await bench.changes.close()
    await asyncio.wait(waiting)
    assert [task.cancelled() for task in waiting] == [True, True]
    bench.store.gate.set()
    await bench.begin("c")
    assert bench.store.writes == [["c"]]


async def test_closing_before_the_first_step_ends_them_too(bench: Changes) -> None:
    made = asyncio.ensure_future(bench.changes.make({"a": lambda _: [PauseJob("a", NOW)]}))
    await asyncio.sleep(0)  # it waits, and the task that writes it has not begun
    await bench.changes.close()
    with pytest.raises(asyncio.CancelledError):
        await made
    await bench.begin("b")
    assert bench.store.writes == [["b"]]


if sys.version_info >= (3, 12):

    async def test_tasks_may_begin_at_once(bench: Changes) -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        try:
            await asyncio.gather(bench.begin("a"), bench.begin("b"))
            await bench.begin("c")
        finally:
            loop.set_task_factory(None)
        assert sorted(itertools.chain(*bench.store.writes)) == ["a", "b", "c"]


def test_an_event_loop_that_was_left_during_a_change_blocks_no_other(tmp_path: Path) -> None:
    """Such as a notebook's, that somebody stopped."""
    store: Any = FakeStore()

    async def begin() -> None:
        store.gate = asyncio.Event()
        abandoned.append(asyncio.ensure_future(changes.make({"a": lambda _: [PauseJob("a", NOW)]})))
        await until(lambda: store.reads)

    async def again() -> None:
        store.gate = asyncio.Event()
        store.gate.set()
        await changes.make({"b": lambda _: [PauseJob("b", NOW)]})

    changes, abandoned = JobChanges(store), list[asyncio.Future[None]]()
    left = asyncio.new_event_loop()
    try:
        left.run_until_complete(begin())
        asyncio.run(again())
        assert store.writes == [["b"]]
        for task in asyncio.all_tasks(left):
            task.cancel()
        left.run_until_complete(asyncio.gather(*abandoned, return_exceptions=True))
        asyncio.run(again())  # what is left over ends no change of another loop
        assert store.writes == [["b"], ["b"]]
    finally:
        left.close()


@pytest.mark.parametrize("job_id", ["\ud800", "\x00", "", "no such job"])
async def test_an_id_that_no_job_can_have_is_unknown_and_spoils_no_other_call(tmp_path: Path, job_id: str) -> None:
    async with Election(tmp_path / "pool") as election:
        calls = [
            election.add_job(FUNC, "interval", id="added", hours=1),
            election.jobs.remove(job_id),
            election.jobs.modify(job_id, "interval", hours=2),
            election.jobs.pause(job_id),
            election.run_now(job_id),
        ]
        added, *others = await asyncio.gather(*calls, return_exceptions=True)
        assert added is None
        assert [type(other) for other in others] == [UnknownJobError] * 4


async def test_calls_at_the_same_time_each_add_their_job(tmp_path: Path) -> None:
    """The one whose id is taken alone fails."""
    async with Election(tmp_path / "pool") as election:
        await election.add_job(FUNC, "interval", id="job-7", hours=1)
        calls = [election.add_job(FUNC, "interval", id=f"job-{number}", hours=1) for number in range(20)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [place for place, result in enumerate(results) if result is not None] == [7]
        assert isinstance(results[7], JobDefinitionError)
        assert {job.id for job in await election.jobs.list()} == {f"job-{number}" for number in range(20)}
