"""``election.jobs``: every call from a coroutine, a thread and a script, of any worker."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from election import (
    ConfigurationError,
    Election,
    ElectionError,
    JobDefinitionError,
    RunError,
    UnknownJobError,
    pool_jobs,
)
from election.operation import Operation
from election.schedule.attempts import MAX_RESULT_LENGTH, result_text
from tests.schedule import stored_functions
from tests.support.logs import logged
from tests.support.waiting import until, until_async

pytestmark = pytest.mark.anyio

FUNC = f"{stored_functions.__name__}:remember_soon"


@pytest.fixture
def election(tmp_path: Path) -> Election:
    election = Election(tmp_path, heartbeat=0.1)
    stored_functions.CALLS.clear()

    @election.scheduled_job("interval", hours=1, id="code", name="Of the code", tags=["daily"])
    async def of_the_code() -> None: ...

    return election


async def test_list_and_get_have_jobs_of_both_kinds(election: Election) -> None:
    await election.jobs.add(FUNC, "interval", hours=2, id="stored", kwargs={"value": 1}, tags=["other"])
    code, stored = sorted(await election.jobs.list(), key=lambda job: job.id)
    assert (code.id, code.name, code.stored) == ("code", "Of the code", None)
    assert stored.stored is not None
    assert (stored.id, stored.stored.func, stored.stored.kwargs) == ("stored", FUNC, {"value": 1})
    assert [job.id for job in await election.jobs.list(search="STO")] == ["stored"]
    assert [job.id for job in await election.jobs.list(search="of the")] == ["code"]
    assert [job.id for job in await election.jobs.list(tag="daily")] == ["code"]
    assert (await election.jobs.get("code")).tags == ["daily"]
    async with election:
        await until_async(election_has_planned(election))
        assert sorted(job.id for job in await election.jobs.list()) == ["code", "stored"]
        assert [job.id for job in await election.jobs.list(tag="other")] == ["stored"]
    with pytest.raises(UnknownJobError, match="no job 'nobody'"):
        await election.jobs.get("nobody")


def election_has_planned(election: Election) -> Callable[[], Awaitable[bool]]:
    async def has_planned() -> bool:
        return all(job.next_run_time is not None for job in await election.jobs.list())

    return has_planned


async def test_list_reads_page_by_page(election: Election) -> None:
    await election.jobs.add_many({"func": FUNC, "trigger": "interval", "hours": 1, "id": f"{n:03}"} for n in range(501))
    assert len(await election.jobs.list()) == 502


async def test_modify_keeps_what_is_not_named(election: Election) -> None:
    await election.jobs.add(
        FUNC, "interval", hours=2, id="job", kwargs={"value": 1}, name="Name", retries=3, tags=["tag"]
    )
    (before,) = await stored_rows(election)
    await election.jobs.modify("job", kwargs={"value": 2}, max_instances=4)
    (after,) = await stored_rows(election)
    assert after.stored.kwargs == {"value": 2}
    assert after.stored.options == {"name": "Name", "retries": 3, "tags": ["tag"], "max_instances": 4}
    assert (after.trigger, after.scheduled_since) == (before.trigger, before.scheduled_since)
    await election.jobs.modify("job", "interval", minutes=7)
    (again,) = await stored_rows(election)
    assert again.stored == after.stored
    assert again.trigger["interval_us"] == 7 * 60 * 10**6 if "interval_us" in again.trigger else again.trigger
    assert "0:07:00" in (await election.jobs.get("job")).trigger
    await election.jobs.reschedule("job", "cron", hour=3)
    assert (await election.jobs.get("job")).trigger.startswith("cron")


async def stored_rows(election: Election) -> Any:
    ledger = election._engine.open_ledger()
    try:
        return [job for job in await ledger.jobs() if job.stored is not None]
    finally:
        await ledger.close()


@pytest.mark.parametrize(
    ("job_id", "changes", "words"),
    [
        ("job", {"seconds": 5}, "seconds cannot be changed without a trigger"),
        ("job", {"trigger": "interval", "hour": 5}, "hour"),
        ("job", {"kwargs": {"value": object()}}, "must be JSON"),
        ("job", {"func": "nobody:nothing"}, "cannot be imported"),
        ("job", {"retries": -1}, "retries"),
    ],
)
async def test_a_change_that_cannot_work_changes_nothing(
    election: Election, job_id: str, changes: dict[str, Any], words: str
) -> None:
    await election.jobs.add(FUNC, "interval", hours=2, id="job")
    before = await stored_rows(election)
    with pytest.raises(JobDefinitionError, match=words):
        await election.jobs.modify(job_id, **changes)
    assert await stored_rows(election) == before


async def test_a_job_that_is_not_there(election: Election) -> None:
    calls: list[Callable[[], Operation[Any]]] = [
        lambda: election.jobs.modify("nobody", name="x"),
        lambda: election.jobs.remove("nobody"),
        lambda: election.jobs.pause("nobody"),
        lambda: election.jobs.resume("nobody"),
        lambda: election.jobs.get("nobody"),
    ]
    for call in calls:
        with pytest.raises(UnknownJobError, match="nobody"):
            await call()


async def test_a_new_job_is_found_by_its_tag_at_once(pool: Election) -> None:
    """Also before a leader has read it, and by the tag that it has now."""
    await pool.jobs.add(FUNC, "interval", hours=1, id="bill", kwargs={"value": 1}, name="Bills", tags=["money"])
    assert [(job.id, job.name) for job in await pool.jobs.list(tag="money")] == [("bill", "Bills")]
    changed = {"kwargs": {"value": 1}, "name": "Bills", "tags": ["paper"], "if_exists": "replace"}
    await pool.jobs.add(FUNC, "interval", hours=1, id="bill", **changed)
    assert [job.id for job in await pool.jobs.list(tag="paper")] == ["bill"]
    assert await pool.jobs.list(tag="money") == []


async def test_all_jobs_with_a_tag(election: Election) -> None:
    async def are_described() -> bool:
        return len(await election.jobs.list(tag="even")) == 2

    async with election:
        for number in range(3):
            tags = ["even"] if number % 2 == 0 else []
            await election.jobs.add(FUNC, "interval", hours=2, id=f"job {number}", tags=tags)
        await until_async(are_described, what="the leader has noted the tags")
        assert await election.jobs.pause_tagged("even") == ["job 0", "job 2"]
        assert [job.id for job in await election.jobs.list() if job.paused] == ["job 0", "job 2"]
        assert await election.jobs.pause_tagged("even") == ["job 0", "job 2"], "once more changes nothing"
        assert await election.jobs.resume_tagged("even") == ["job 0", "job 2"]
        assert not any(job.paused for job in await election.jobs.list())
        with pytest.raises(UnknownJobError, match="no job in this pool has the tag 'odd'"):
            await election.jobs.pause_tagged("odd")


async def test_pause_and_resume_and_remove(election: Election) -> None:
    await election.jobs.add(FUNC, "interval", hours=2, id="job")
    await election.jobs.pause("job")
    assert (await election.jobs.get("job")).paused
    await election.jobs.resume("job")
    assert not (await election.jobs.get("job")).paused
    await election.jobs.remove("job")
    with pytest.raises(UnknownJobError):
        await election.jobs.get("job")


async def test_each_change_names_who_made_it(election: Election) -> None:
    """``by``, else this process; also of what is stored by ``add_job`` and of a resignation."""
    us = f"pid {os.getpid()} on {socket.gethostname()}"
    async with election:
        await until_async(election_has_planned(election))
        await election.add_job(FUNC, "interval", hours=2, id="stored", kwargs={"value": 1}, by="ann")
        await election.jobs.modify("stored", hours=3, trigger="interval", by="ben")
        await election.jobs.reschedule("code", "interval", minutes=5)
        await election.jobs.reset_trigger("code", by="ben")
        await election.jobs.pause("stored", by="cleo")
        await election.jobs.resume_tagged("daily", by="cleo")
        run = await election.run_now("stored", kwargs={"value": 2}, by="dan")
        await election.remove_job("stored", by="ann")
        assert await election.resign(by="eve")
        await until_async(lambda: _has_changes(election, 9), what="the resignation, which waits for no ledger")
        found = (await election.jobs.changes())[::-1]
    assert [(row.by, row.action, row.job_id, row.before, row.after) for row in found] == [
        ("ann", "add", "stored", None, f"interval[2:00:00] {FUNC}"),
        ("ben", "reschedule", "stored", "interval[2:00:00]", "interval[3:00:00]"),
        (us, "reschedule", "code", "interval[1:00:00]", "interval[0:05:00]"),
        ("ben", "reschedule", "code", "interval[0:05:00]", "interval[1:00:00] (the trigger of the code)"),
        ("cleo", "pause", "stored", None, None),
        ("cleo", "resume", "code", None, "all tagged daily"),
        ("dan", "run", "stored", None, "with value"),
        ("ann", "remove", "stored", f"interval[3:00:00] {FUNC}", None),
        ("eve", "resign", None, "term 1", None),
    ]
    assert found[6].request == run.request
    with pytest.raises(ConfigurationError, match="cannot be recorded"):
        await election.jobs.pause("code", by="")
    assert [row.job_id for row in await election.jobs.changes("code", limit=1)] == ["code"]


async def _has_changes(election: Election, number: int) -> bool:
    return len(await election.jobs.changes()) == number


async def test_the_history(election: Election) -> None:
    async with election:
        await election.jobs.add(FUNC, "interval", hours=2, id="job")
        await election.jobs.add(FUNC, "date", id="once", kwargs={"value": 1}, run_date=datetime.now(UTC))
        await until_async(lambda: stored_functions.CALLS == [1])

        async def has_ended() -> bool:
            return [run.outcome for run in await election.jobs.runs("once")] == ["succeeded"]

        await until_async(has_ended)
        assert await election.jobs.runs("once", outcome="failed") == []
        assert await election.jobs.skips() == []
        ticks = await election.jobs.next("job", limit=3)
        assert [later.due - earlier.due for earlier, later in zip(ticks, ticks[1:])] == [timedelta(hours=2)] * 2  # noqa: B905, RUF007


async def test_a_history_that_cannot_be_is_empty_or_an_error_that_says_why(
    election: Election, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids and numbers come from forms: a text that no ledger can hold, a number beyond every page."""
    jobs = election.jobs
    async with election:
        for odd in ("\ud800", "a\0b", "x" * 1000):
            assert await jobs.runs(odd) == await jobs.skips(tag=odd) == await jobs.changes(odd) == []
            assert await jobs.next(odd) == []
            with pytest.raises(UnknownJobError):
                await jobs.get(odd)
        await until_async(jobs.next, what="the job of the code is planned")
        monkeypatch.setattr(pool_jobs, "MAX_COMING", 12)
        assert len(await jobs.next(limit=2**70)) == 12
        assert await jobs.runs(before=2**70, limit=2**70) == await jobs.runs(before=-(2**70)) == []
        for call in (jobs.runs, jobs.skips, jobs.changes, jobs.next):
            with pytest.raises(ConfigurationError, match="limit is a whole number, not less than 0, not -1"):
                await call(limit=-1)
        with pytest.raises(ConfigurationError, match="outcome is one of running, succeeded, failed, interrupted, not"):
            await jobs.runs(outcome="done")  # type: ignore[arg-type]


def test_in_a_def_endpoint_and_in_a_script(election: Election) -> None:
    app = FastAPI(lifespan=election.lifespan)

    @app.post("/sync")
    def sync() -> list[str]:
        election.jobs.add(FUNC, "interval", hours=2, id="thread").result(30)
        election.jobs.pause("thread").result(30)
        assert election.jobs.get("thread").result(30).paused
        return [job.id for job in election.jobs.list(search="thread").result(30)]

    @app.post("/async")
    async def not_awaited() -> str:
        with pytest.raises(ElectionError, match=r"await election.jobs.list\(\)"):
            election.jobs.list().result()
        return "refused"

    with TestClient(app) as client:
        assert client.post("/sync").json() == ["thread"]
        assert client.post("/async").json() == "refused"
    for _ in range(2):  # in a script, each in its own loop
        assert election.jobs.get("thread").result().paused
    election.jobs.remove("thread").result()
    assert [job.id for job in election.jobs.list().result()] == ["code"]


async def test_what_is_not_awaited_does_not_vanish(election: Election, caplog: pytest.LogCaptureFixture) -> None:
    election.jobs.pause("code")  # not started
    gc.collect()
    (record,) = logged(caplog, "call_forgotten")
    assert "election.jobs.pause('code') did nothing" in record.getMessage()
    async with election:
        await election.jobs.add(FUNC, "interval", hours=2, id="job")
        election.jobs.pause("job")

        async def is_paused() -> bool:
            return (await election.jobs.get("job")).paused

        await until_async(is_paused)
        election.jobs.remove("nobody")
        gc.collect()
        await until_async(lambda: logged(caplog, "call_failed"))
    assert "jobs.remove('nobody') failed: no job 'nobody'" in logged(caplog, "call_failed")[0].getMessage()


async def test_a_shutdown_ends_what_is_under_way(election: Election) -> None:
    """Otherwise it would reopen the closed ledger, and nothing would close it again."""
    started = asyncio.Event()

    async def for_ever(ledger: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    async with election:
        endless = election._access.perform(for_ever, "endless()")
        await started.wait()
    with pytest.raises(asyncio.CancelledError):
        await endless


# --- run now ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def pool(tmp_path: Path) -> Election:
    election = Election(tmp_path, heartbeat=0.1)

    @election.scheduled_job("interval", hours=1, id="sum")
    async def add(left: int = 1, right: int = 2) -> dict[str, int]:
        return {"sum": left + right}

    @election.scheduled_job("interval", hours=1, id="thread")
    def in_thread() -> object:
        return object()  # no JSON

    @election.scheduled_job("interval", hours=1, id="fails")
    async def fails() -> None:
        raise ValueError("no luck")

    @election.scheduled_job("interval", hours=1, id="long")
    async def long() -> None:
        await asyncio.sleep(60)

    return election


async def test_a_run_is_awaited_and_returns_what_the_job_returns(pool: Election) -> None:
    async with pool:
        run = await pool.run_now("sum")  # also before a leader has planned: the job is in the code
        assert await run.result(30) == {"sum": 3}
        run = await pool.jobs.run_now("sum", kwargs={"right": 5})
        assert await run.result() == {"sum": 6}
        assert await run.result() == {"sum": 6}
        assert await (await pool.run_now("thread")).result() is None
        await pool.jobs.add(FUNC, "interval", hours=2, id="stored", kwargs={"value": 1})
        run = await pool.run_now("stored", kwargs={"value": "now"})
        await run.result()
        assert stored_functions.CALLS[-1] == "now"


async def test_a_run_that_does_not_succeed(pool: Election) -> None:
    async with pool:
        with pytest.raises(RunError, match="fails failed: ValueError: no luck") as raised:
            await (await pool.run_now("fails")).result(30)
        assert (raised.value.outcome, raised.value.reason) == ("failed", "ValueError: no luck")
        long = await pool.run_now("long")
        with pytest.raises(TimeoutError, match=r"has not ended within 0\.2 s"):
            await long.result(0.2)
        with pytest.raises(RunError, match=r"long was not run: skipped \(overlap\)") as raised:
            await (await pool.run_now("long")).result(30)
        assert raised.value.outcome == "skipped"
        await long.cancel()


async def test_a_run_is_cancelled(pool: Election) -> None:
    ends = threading.Event()

    @pool.scheduled_job("interval", hours=1, id="holds")
    def holds() -> None:
        ends.wait(60)

    @pool.scheduled_job("interval", hours=1, id="tries again", retries=1, retry_backoff=3600)
    async def tries_again() -> None:
        raise ValueError

    async with pool:
        run = await pool.run_now("long")
        await run.cancel()
        with pytest.raises(RunError, match="long interrupted: cancelled: by request"):
            await run.result(30)
        with pytest.raises(RunError, match="it does not run any more"):
            await run.cancel()
        holding = await pool.run_now("holds")
        (row,) = await until_async(lambda: pool.jobs.runs("holds"))
        await until_async(lambda: pool.unfinished_jobs() == ["holds"])
        with pytest.raises(RunError, match="its code runs in a thread, which cannot be stopped"):
            await pool.jobs.cancel(row)
        ends.set()
        await holding.result(30)
        again = await pool.run_now("tries again")
        (row,) = await until_async(lambda: waiting_for_another_attempt(pool))
        await pool.jobs.cancel(row.seq)
        with pytest.raises(RunError, match="by request"):
            await again.result(30)
        with pytest.raises(UnknownJobError, match="no run 999"):
            await pool.jobs.cancel(999)


async def waiting_for_another_attempt(pool: Election) -> Any:
    return [run for run in await pool.jobs.runs("tries again") if run.attempt == 2]


@pytest.mark.parametrize(
    ("job_id", "kwargs", "words"),
    [
        ("sum", {"middle": 1}, "'sum' cannot be called with these arguments: got an unexpected keyword"),
        ("sum", {"left": object()}, "must be JSON"),
        ("sum", {"left": {1: 2}}, "must be JSON"),
    ],
)
async def test_arguments_that_cannot_work_raise_at_the_call(
    pool: Election, job_id: str, kwargs: dict[str, Any], words: str
) -> None:
    with pytest.raises(JobDefinitionError, match=words):
        pool.run_now(job_id, kwargs=kwargs)


async def test_an_unknown_job_cannot_be_run(pool: Election) -> None:
    with pytest.raises(UnknownJobError, match="nobody"):
        await pool.run_now("nobody")


def test_a_thread_and_a_script_wait_for_a_run(pool: Election, tmp_path: Path) -> None:
    app, script = FastAPI(lifespan=pool.lifespan), Election(tmp_path)

    @app.post("/run")
    def endpoint() -> Any:
        return pool.run_now("sum", kwargs={"left": 10}).result(30).wait(30)

    with TestClient(app) as client:
        assert client.post("/run").json() == {"sum": 12}
        until(lambda: script.jobs.get("sum").result() is not None)
        assert script.run_now("sum", kwargs={"left": 20}).result().wait(30) == {"sum": 22}


def test_results_are_bounded() -> None:
    assert result_text({"a": [1, 2.5, "ü", None]}) is not None
    assert result_text("x" * MAX_RESULT_LENGTH) is None
    assert [result_text(value) for value in (None, object(), float("nan"), {1, 2})] == [None] * 4
    endless: list[Any] = []
    endless.append(endless)
    assert result_text(endless) is None

    class Odd(dict[str, str]):
        def items(self) -> Any:
            raise GeneratorExit

    assert result_text(Odd(a="b")) is None


# --- jobs of the code at run time -------------------------------------------------------------------------------------


def code(pool: Path, seconds: int = 3600) -> Election:
    election = Election(pool, heartbeat=0.1)

    @election.scheduled_job("interval", seconds=seconds, id="code")
    async def job() -> None: ...

    return election


async def seconds_between_ticks(election: Election) -> float | None:
    first, second = (await election.jobs.next("code", limit=2)) or (None, None)
    return None if first is None or second is None else (second.due - first.due).total_seconds()


def has_ticks_every(election: Election, seconds: float) -> Callable[[], Awaitable[bool]]:
    async def compare() -> bool:
        return await seconds_between_ticks(election) == seconds

    return compare


async def test_a_job_of_the_code_is_rescheduled_until_the_code_changes(tmp_path: Path) -> None:
    async with code(tmp_path) as election:
        await until_async(has_ticks_every(election, 3600))
        await election.jobs.reschedule("code", "interval", seconds=60)
        await until_async(has_ticks_every(election, 60))
        assert (await election.jobs.get("code")).trigger == "interval[0:01:00] (in the code: interval[1:00:00])"
        await election.jobs.pause("code")
    async with code(tmp_path) as election:  # a restart
        await until_async(lambda: election.is_leader)
        job = await election.jobs.get("code")
        assert job.paused
        await election.jobs.resume("code")
        await until_async(has_ticks_every(election, 60))
    async with code(tmp_path, 1800) as election:  # a deploy with another trigger: the code wins
        await until_async(has_ticks_every(election, 1800))
        assert (await election.jobs.get("code")).trigger == "interval[0:30:00]"
    async with code(tmp_path) as election:  # and earlier changes do not come back
        await until_async(has_ticks_every(election, 3600))


async def test_the_trigger_of_the_code_comes_back(tmp_path: Path) -> None:
    async with code(tmp_path) as election:
        await until_async(has_ticks_every(election, 3600))
        await election.jobs.modify("code", "cron", minute="*/5")
        await until_async(has_ticks_every(election, 300))
        await election.jobs.reset_trigger("code")
        await until_async(has_ticks_every(election, 3600))
        assert (await election.jobs.get("code")).trigger == "interval[1:00:00]"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "other"}, "only its trigger can be changed at run time, and all else in the code; given: name"),
        ({}, "given: nothing"),
        ({"trigger": "interval", "seconds": 5, "retries": 2, "kwargs": {}}, "given: kwargs, retries"),
        ({"trigger": "interval", "hour": 5}, "hour"),
    ],
)
async def test_what_is_for_the_code_to_change(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    async with code(tmp_path) as election:
        await until_async(has_ticks_every(election, 3600))
        with pytest.raises(JobDefinitionError, match=words):
            await election.jobs.modify("code", **changes)
        await election.jobs.add(FUNC, "interval", hours=2, id="job")
        with pytest.raises(JobDefinitionError, match="'job' was added at run time"):
            await election.jobs.reset_trigger("job")
