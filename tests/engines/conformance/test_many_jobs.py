"""Reads of a pool's jobs take no longer when there are more jobs, on every engine."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from election.schedule.commands import (
    Claim,
    Command,
    DescribeJob,
    Entry,
    FinishRun,
    MarkBroken,
    RegisterJob,
    RetireJob,
    SetNextDue,
    StoreJob,
)
from election.schedule.ledger import Ledger
from election.schedule.model import JobInfo, Outcome, StoredJob, Tick
from tests.engines.conformance.pool import SECONDS, Pool
from tests.schedule.making import NOW, at, make_term, process

pytestmark = pytest.mark.anyio

FUNC = StoredJob("module:function")


@pytest.fixture
async def other(pool: Pool, ledger: Ledger) -> AsyncIterator[Ledger]:
    """The ledger in another worker."""
    other = pool.ledger()
    yield other
    await other.close()


async def add(ledger: Ledger, count: int) -> list[str]:
    """Add ``count`` jobs at run time, of which the last is due first; return their ids."""
    ids, commands = [f"stored{number:03}" for number in range(count)], list[Command]()
    for number, job_id in enumerate(ids):
        register = RegisterJob(job_id, SECONDS.schedule, at=NOW, since=NOW)
        commands += [register, StoreJob(job_id, FUNC, keep_pause=False), SetNextDue(job_id, at(1000 - number))]
    await ledger.store.write(commands, term=None)
    return ids


def code_jobs(*names: str) -> list[Entry]:
    return [RegisterJob(name, SECONDS.schedule, at=NOW, since=NOW) for name in names]


async def test_the_overview_has_the_code_and_what_is_due_soonest(ledger: Ledger) -> None:
    ids = await add(ledger, 30)
    await ledger.record(1, [*code_jobs("alpha", "zulu"), RetireJob("alpha", NOW), MarkBroken("zulu", "broken")])
    await ledger.pause(ids[-1], True)
    await ledger.record(1, [MarkBroken(ids[-2], "no function")])
    found = await ledger.overview(10)
    assert [job.id for job in found.code] == ["job", "zulu", "alpha"], "those that left the code come last"
    assert [job.id for job in found.stored] == ids[-3:-13:-1], "what is paused or broken is not due"
    assert found.code_ids == {"job": None, "zulu": "broken"}
    assert found.total == 32
    assert [job.id for job in (await ledger.overview(2)).jobs] == ["job", "zulu", *ids[-3:-5:-1]]
    everything = await ledger.overview(40)
    assert [job.id for job in everything.stored] == [*ids[-3::-1], *ids[-2:]]


async def test_the_overview_follows_what_changes(ledger: Ledger, other: Ledger) -> None:
    one, two, three = await add(ledger, 3)
    await other.pause(three, True)
    assert [job.id for job in (await ledger.overview()).stored] == [two, one, three]
    await ledger.record(1, [SetNextDue(one, at(1))])
    assert [job.id for job in (await ledger.overview()).stored] == [one, two, three]
    await other.remove_job(one)
    found = await ledger.overview()
    assert [job.id for job in found.stored] == [two, three]
    assert found.total == 3
    await ledger.record(1, code_jobs(one))  # the id is free for the code
    assert [job.id for job in (await ledger.overview()).code] == ["job", one]


async def test_jobs_are_read_by_id_in_pages(ledger: Ledger) -> None:
    ids = await add(ledger, 25)
    await ledger.remove_job(ids[3])
    expected = sorted({"job", *ids} - {ids[3]})
    seen: list[str] = []
    while found := await ledger.store.jobs_after(seen[-1] if seen else "", 7):
        assert len(found) <= 7
        seen += [job.id for job in found]
    assert seen == expected
    page = await ledger.search_jobs(after=ids[20], limit=2)
    assert [job.id for job in page] == ids[21:23]


async def test_jobs_are_found_by_text_and_tag(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("election.schedule.ledger_reader.JOBS_PER_SEARCH", 3)
    ids = await add(ledger, 20)
    info = JobInfo("Monthly Invoices", "sends them", ("billing", "50%"))
    await ledger.record(1, [DescribeJob(ids[7], info), DescribeJob("job", JobInfo("job", None, ("billing",)))])

    async def search(**of: object) -> list[str]:
        return [job.id for job in await ledger.search_jobs(**of)]  # type: ignore[arg-type]

    assert await search(text="INVOICE") == [ids[7]]
    assert await search(text="stored01") == ids[10:]
    assert await search(text="stored01", limit=4, after=ids[11]) == ids[12:16]
    assert await search(tag="billing") == ["job", ids[7]]
    assert await search(tag="50%", text="invoices") == [ids[7]]
    assert await search(text="%") == []


async def test_the_latest_run_of_each_job(ledger: Ledger) -> None:
    one, two, three = await add(ledger, 3)
    for second in (1, 2):
        ticks = [Tick(one, at(second)), Tick(two, at(second))]
        await ledger.record(1, [Claim(tick, NOW) for tick in ticks])
        await ledger.record(1, [FinishRun(tick, Outcome.SUCCEEDED, at(second)) for tick in ticks])
    found = await ledger.last_outcomes([one, three, "nobody"])
    assert {job_id: run.due for job_id, run in found.items()} == {one: at(2)}
    assert await ledger.last_outcomes([]) == {}


async def test_what_may_be_due_soonest(ledger: Ledger) -> None:
    """Every job of the code, since their due times are unknown."""
    ids = await add(ledger, 130)
    names = [f"code{number:03}" for number in range(120)]
    await ledger.record(1, code_jobs(*names))
    found = [job.id for job in await ledger.due_soonest(5)]
    assert sorted(found) == sorted(["job", *names, *ids[30:]])
    assert [job.id for job in await ledger.due_soonest(5, ids[0])] == [ids[0]]
    await ledger.remove_job(ids[0])
    assert await ledger.due_soonest(5, ids[0]) == await ledger.due_soonest(5, "nobody") == []


async def test_a_new_term_reads_the_same(ledger: Ledger, other: Ledger) -> None:
    ids = await add(other, 130)
    state = await ledger.begin_term(make_term(2), process())
    assert sorted([*(job.id for job in state.jobs), *state.rest]) == sorted(["job", *ids])
    assert [*state.rest] == ids[29::-1]
