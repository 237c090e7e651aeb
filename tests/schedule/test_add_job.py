"""``Election.add_job`` in every usual form: awaited or not, before the start and after it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from starlette.testclient import TestClient

from election import Election, ElectionError
from election.core.errors import JobDefinitionError
from tests.schedule import stored_functions
from tests.support.logs import logged
from tests.support.waiting import until, until_async

pytestmark = pytest.mark.anyio

FUNC = f"{stored_functions.__name__}:remember_soon"
HERE = Path(__file__).name

CALLS: list[Any] = []


async def report(what: str = "report") -> None:
    CALLS.append(what)


class Service:
    def __init__(self, name: str) -> None:
        self.name = name

    def clean_up(self) -> None:
        CALLS.append(self.name)


@pytest.fixture(autouse=True)
def no_calls() -> None:
    CALLS.clear()
    stored_functions.CALLS.clear()


@pytest.fixture
def election(tmp_path: Path) -> Election:
    return Election(tmp_path, heartbeat=0.1)


async def stored(election: Election) -> list[str]:
    return [job.id for job in await election.jobs.list() if job.stored is not None]


# --- before the start -------------------------------------------------------------------------------------------------


async def test_at_module_level_it_is_a_job_of_the_code(election: Election) -> None:
    """Functions, bound methods and partials, with APScheduler's own arguments."""
    service = Service("bound")
    election.add_job(report, "interval", seconds=0.1, replace_existing=True)
    election.add_job(service.clean_up, "interval", seconds=0.1, id="service")
    election.add_job(functools.partial(report, "partial"), "interval", seconds=0.1, id="partial")
    election.add_job(report, "interval", seconds=0.1, id="args", args=["args"])
    election.add_job(FUNC, "interval", seconds=0.1, id="reference", kwargs={"value": "text"})
    async with election:
        await until_async(lambda: {*CALLS, *stored_functions.CALLS} >= {"report", "bound", "partial", "args", "text"})
        assert await stored(election) == []


async def test_the_same_registration_twice_changes_nothing(election: Election) -> None:
    service = Service("bound")
    for _ in range(2):
        election.add_job(report, "interval", seconds=5, id="job")
        election.add_job(service.clean_up, "interval", seconds=5, id="service")
        election.add_job(functools.partial(report, "partial"), "interval", seconds=5, id="partial")
        election.scheduled_job("interval", seconds=5, id="decorated")(report)
    assert [job.id for job in election._jobs] == ["job", "service", "partial", "decorated"]


@pytest.mark.parametrize(
    ("func", "more"), [(report, {"seconds": 6}), (print, {"seconds": 5}), (report, {"seconds": 5, "args": [1]})]
)
def test_two_different_ones_under_one_id_are_both_named(election: Election, func: Any, more: dict[str, Any]) -> None:
    election.add_job(report, "interval", seconds=5, id="job")
    with pytest.raises(JobDefinitionError, match=rf"registered at .*{HERE}:\d+; give this one, at .*{HERE}:\d+, an id"):
        election.add_job(func, "interval", id="job", **more)


def test_functions_that_are_made_in_a_loop_are_different_ones(election: Election) -> None:
    """A closure over a loop variable would call the last of them in place of all."""

    def register(number: int) -> None:
        async def job() -> None:
            CALLS.append(number)

        election.add_job(job, "interval", seconds=5)

    register(1)
    with pytest.raises(JobDefinitionError, match="already"):
        register(2)


def test_a_second_start_registers_again(tmp_path: Path) -> None:
    """Like an application's lifespan with each ``TestClient``; the latest function is called."""
    election = Election(tmp_path, heartbeat=0.1)
    starts = iter(["first", "second"])

    def app() -> FastAPI:
        async def lifespan(app: FastAPI) -> Any:
            start = next(starts)

            async def job() -> None:
                CALLS.append(start)

            election.add_job(job, "interval", seconds=0.05, id="job")
            async with election:
                yield

        return FastAPI(lifespan=contextlib.asynccontextmanager(lifespan))

    for start in ("first", "second"):
        CALLS.clear()
        with TestClient(app()):
            until(lambda start=start: start in CALLS)
    assert "first" not in CALLS


async def get_name() -> str:
    return "name"


def test_dependencies_do_not_make_two_jobs_one(election: Election) -> None:
    """Wrappers of a decorator have the same code, and equal partials are not equal."""

    def partial_job() -> Any:
        async def job(what: str, name: Annotated[str, Depends(get_name)]) -> None: ...

        return job

    async def other(what: str, name: Annotated[str, Depends(get_name)]) -> None: ...

    func = partial_job()
    for _ in range(2):
        election.add_job(functools.partial(func, "a"), "interval", seconds=5, id="job")
    election._jobs.expect_again()  # as after the end of an election
    with pytest.raises(JobDefinitionError, match="'job' already"):
        election.add_job(functools.partial(other, "a"), "interval", seconds=5, id="job")
    election.add_job(functools.partial(partial_job(), "a"), "interval", seconds=5, id="job")


async def test_awaited_it_is_stored(election: Election) -> None:
    """Like a script, which takes no part."""
    await election.add_job(FUNC, "interval", hours=1, id="script")
    assert await stored(election) == ["script"]
    assert list(election._jobs) == []
    with pytest.raises(JobDefinitionError, match="needs an id"):
        await election.add_job(FUNC, "interval", hours=1)
    election.add_job(report, "interval", seconds=5, id="code")
    with pytest.raises(JobDefinitionError, match="'code' already"):
        await election.add_job(FUNC, "interval", hours=1, id="code")
    await election.add_job(report, "interval", seconds=5, id="code")  # the same registration again
    assert await stored(election) == ["script"]
    assert [job.id for job in election._jobs] == ["code"]


def test_a_plain_script_waits_for_the_result(tmp_path: Path) -> None:
    election = Election(tmp_path)
    for job_id in ("one", "two"):
        election.add_job(FUNC, "interval", hours=1, id=job_id).result()
    assert asyncio.run(stored(election)) == ["one", "two"]
    with pytest.raises(JobDefinitionError, match="'one' already"):
        election.add_job(FUNC, "interval", hours=1, id="one").result()


# --- after the start --------------------------------------------------------------------------------------------------


def test_from_an_endpoint_of_each_kind(tmp_path: Path) -> None:
    election = Election(tmp_path, heartbeat=0.1)
    app = FastAPI(lifespan=election.lifespan)

    @app.post("/awaited")
    async def awaited() -> None:
        await election.add_job(FUNC, "interval", hours=1, id="awaited")

    @app.post("/forgotten")
    async def forgotten() -> None:
        election.add_job(FUNC, "interval", hours=1, id="forgotten")

    @app.post("/thread")
    def thread() -> None:
        election.add_job(FUNC, "interval", hours=1, id="thread").result(30)

    @app.post("/thread-forgotten")
    def thread_forgotten() -> None:
        election.add_job(FUNC, "interval", hours=1, id="thread-forgotten")

    @app.get("/stored")
    async def read() -> list[str]:
        return await stored(election)

    with TestClient(app) as client:
        for path in ("awaited", "thread", "forgotten", "thread-forgotten"):
            assert client.post(f"/{path}").status_code == 200
        until(
            lambda: client.get("/stored").json() == ["awaited", "forgotten", "thread", "thread-forgotten"],
            what="what was not awaited is stored, too",
        )


async def test_it_is_a_coroutine_to_asyncio(election: Election) -> None:
    async with election:
        adding = asyncio.create_task(election.add_job(FUNC, "interval", hours=1, id="task"))
        await asyncio.gather(adding, *(election.add_job(FUNC, "interval", hours=1, id=name) for name in "ab"))
        assert await stored(election) == ["a", "b", "task"]
        with pytest.raises(JobDefinitionError, match="'task' already"):
            await election.add_job(FUNC, "interval", hours=1, id="task")


async def test_what_goes_wrong_and_is_not_awaited_is_logged(
    election: Election, caplog: pytest.LogCaptureFixture
) -> None:
    async with election:
        await election.add_job(FUNC, "interval", hours=1, id="job")
        election.add_job(FUNC, "interval", hours=1, id="job")
        gc.collect()
        await until_async(lambda: logged(caplog, "call_failed"))
    (record,) = logged(caplog, "call_failed")
    assert "there is a job 'job' already" in record.getMessage()


async def test_what_cannot_work_raises_at_the_call(election: Election) -> None:
    """Awaited or not."""
    async with election:
        with pytest.raises(JobDefinitionError, match="needs an id"):
            election.add_job(FUNC, "interval", hours=1)
        with pytest.raises(JobDefinitionError, match="cannot be imported"):
            election.add_job("nobody:nothing", "interval", hours=1, id="job")
        with pytest.raises(ElectionError, match=r"an event loop runs in this thread .* await election.add_job"):
            election.add_job(FUNC, "interval", hours=1, id="job").result()


@pytest.mark.parametrize(
    ("if_exists", "expected"), [("keep", {"value": 1}), ("replace", {"value": 2}), ("error", {"value": 1})]
)
async def test_an_id_that_exists(election: Election, if_exists: Any, expected: dict[str, int]) -> None:
    await election.add_job(FUNC, "interval", hours=1, id="job", kwargs={"value": 1})
    again = election.add_job(FUNC, "interval", hours=1, id="job", kwargs={"value": 2}, if_exists=if_exists)
    if if_exists == "error":
        with pytest.raises(JobDefinitionError, match='replace=True, or if_exists="keep"'):
            await again
    else:
        await again
    job = await election.jobs.get("job")
    assert job.stored is not None
    assert job.stored.kwargs == expected


async def test_what_to_do_if_it_exists_is_one_of_three(election: Election) -> None:
    with pytest.raises(JobDefinitionError, match="if_exists is"):
        election.add_job(FUNC, "interval", hours=1, id="job", if_exists="ignore")  # type: ignore[arg-type]
