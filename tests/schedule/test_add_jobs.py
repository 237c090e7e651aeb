"""``Election.add_jobs``: many jobs at once."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest

from election import Election
from election.core.errors import JobDefinitionError
from election.schedule import ledger
from tests.schedule import stored_functions
from tests.support.waiting import until_async

pytestmark = pytest.mark.anyio

FUNC = f"{stored_functions.__name__}:remember_soon"


def some(*ids: str, **arguments: Any) -> list[dict[str, Any]]:
    return [{"func": FUNC, "trigger": "date", "id": each, "kwargs": {"value": each}, **arguments} for each in ids]


async def ids_of(election: Election) -> set[str]:
    return {job.id for job in await election._ledger.jobs()}


async def test_p3_each_runs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In more than one transaction."""
    monkeypatch.setattr(ledger, "MAX_JOBS_PER_WRITE", 10)
    ids = [f"job{number}" for number in range(25)]
    stored_functions.CALLS.clear()
    async with Election(tmp_path / "pool", heartbeat=0.1) as election:
        await election.add_jobs(some(*ids))
        await until_async(lambda: len(stored_functions.CALLS) == len(ids))
        assert set(stored_functions.CALLS) == set(ids)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"trigger": "date", "id": "last"}, "number 2 of add_jobs lacks func"),
        ({"func": "nobody:nothing", "trigger": "date", "id": "last"}, "job 'last': nobody:nothing cannot be imported"),
        ({"func": FUNC, "trigger": "date", "id": "one"}, "two jobs of add_jobs have the id 'one'"),
        ({"func": FUNC, "trigger": "date", "id": ["list"]}, "the id of a job is text"),
        ({"func": FUNC, "trigger": "interval", "id": "last", "hour": 1}, "job 'last'"),
    ],
)
async def test_if_one_is_wrong_none_is_added(tmp_path: Path, wrong: dict[str, Any], words: str) -> None:
    async with Election(tmp_path / "pool") as election:
        with pytest.raises(JobDefinitionError, match=words):
            await election.add_jobs([*some("one", "other"), wrong])
        assert await ids_of(election) == set()


async def test_with_replace_it_may_be_repeated(tmp_path: Path) -> None:
    async with Election(tmp_path / "pool") as election:
        jobs = [{**each, "trigger": "interval", "hours": 1} for each in some("one", "other")]
        await election.add_jobs(jobs)
        before = await election._ledger.jobs()
        with pytest.raises(JobDefinitionError, match="there is a job 'one' already"):
            await election.add_jobs(jobs)
        await election.add_jobs(jobs, replace=True)
        settled = {job.id: (job.scheduled_since, job.stored) for job in await election._ledger.jobs()}
        assert settled == {job.id: (job.scheduled_since, job.stored) for job in before}
        await election.add_jobs([])


async def test_the_event_loop_goes_on_meanwhile(tmp_path: Path) -> None:
    """They are checked in batches."""
    turns: list[int] = []

    async def count() -> None:
        for turn in itertools.count():
            turns.append(turn)
            await asyncio.sleep(0)

    async with Election(tmp_path / "pool") as election:
        counting = asyncio.create_task(count())
        at_each = []

        def jobs() -> Any:
            for number in range(200):
                at_each.append(len(turns))
                yield from some(f"job{number}", trigger="interval", hours=1)

        await election.add_jobs(jobs())
        counting.cancel()
    assert len(set(at_each)) >= 4
