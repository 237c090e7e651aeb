"""FastAPI's dependencies in jobs, provided by FastAPI itself."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, Request
from starlette.testclient import TestClient

from election import Election, current_run
from election.core.errors import JobDefinitionError
from election.schedule.job_runner import CancelledBy
from tests.support.waiting import until, until_async

SEEN: list[Any] = []
THREADS: list[threading.Thread] = []


class Session:
    """Counter of open dependencies."""

    open = 0

    def __init__(self) -> None:
        Session.open += 1

    def close(self) -> None:
        Session.open -= 1


async def get_session() -> AsyncIterator[Session]:
    session = Session()
    try:
        yield session
    except Exception as error:
        SEEN.append(f"rolled back: {error!r}")
        raise
    finally:
        session.close()


def get_settings() -> Iterator[str]:
    SEEN.append("settings")
    yield "settings"


async def get_service(
    session: Annotated[Session, Depends(get_session)], settings: Annotated[str, Depends(get_settings)]
) -> tuple[Session, str]:
    return session, settings


async def get_loop() -> AsyncIterator[asyncio.AbstractEventLoop]:
    THREADS.append(threading.current_thread())
    yield asyncio.get_running_loop()
    THREADS.append(threading.current_thread())


async def get_name(request: Request) -> str:
    return str(request.app.state.name)


async def get_page(page: int) -> int:
    return page


async def stored_job(session: Annotated[Session, Depends(get_session)], name: str = "") -> None:
    SEEN.append((name, type(session).__name__, Session.open))


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    SEEN.clear()
    THREADS.clear()
    Session.open = 0


@pytest.fixture
def election(tmp_path: Path) -> Election:
    return Election(tmp_path / "pool", heartbeat=0.1)


@pytest.fixture
def serve(election: Election) -> Iterator[Callable[..., TestClient]]:
    """Serve an application with the election, and return a client."""
    clients: list[TestClient] = []

    def started(app: FastAPI | None = None) -> TestClient:
        app = app or FastAPI(lifespan=election.lifespan)
        app.include_router(election.router)
        clients.append(TestClient(app))
        return clients[-1].__enter__()

    yield started
    for client in clients:
        client.__exit__(None, None, None)


def outcome(client: TestClient, job_id: str) -> dict[str, Any]:
    """First run of a job that has ended."""
    ended = until(
        lambda: [run for run in client.get("/leader/runs", params={"job": job_id}).json()["runs"] if run["outcome"]]
    )
    return dict(ended[-1])


def test_a_coroutine_has_its_dependencies(election: Election, serve: Callable[..., TestClient]) -> None:
    """Dependencies of dependencies too, each once in a run; closed at its end."""

    @election.scheduled_job("date", id="job", args=["argument"])
    async def job(
        argument: str,
        session: Annotated[Session, Depends(get_session)],
        service: Annotated[tuple[Session, str], Depends(get_service)],
        settings: str = Depends(get_settings),
    ) -> None:
        SEEN.append((argument, service == (session, "settings"), settings, Session.open, current_run() is not None))

    assert outcome(serve(), "job")["outcome"] == "succeeded"
    assert SEEN == ["settings", ("argument", True, "settings", 1, True)]
    assert Session.open == 0


def test_a_plain_function_has_them_in_its_thread(election: Election, serve: Callable[..., TestClient]) -> None:
    @election.scheduled_job("date", id="job")
    def job(session: Annotated[Session, Depends(get_session)], loop: Annotated[Any, Depends(get_loop)]) -> None:
        SEEN.append((Session.open, loop.is_running(), len(THREADS), threading.current_thread() in THREADS))

    assert outcome(serve(), "job")["outcome"] == "succeeded"
    assert SEEN == [(1, True, 1, False)]
    assert (Session.open, len(set(THREADS)), len(THREADS)) == (0, 1, 2)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("error", [ValueError("wrong"), HTTPException(418, "teapot")])
def test_what_the_job_raises_is_raised_in_them(
    election: Election, serve: Callable[..., TestClient], plain: bool, error: Exception
) -> None:
    def fail(session: Annotated[Session, Depends(get_session)]) -> None:
        raise error

    async def fail_async(session: Annotated[Session, Depends(get_session)]) -> None:
        raise error

    election.add_job(fail if plain else fail_async, "date", id="job")
    client = serve()
    found = outcome(client, "job")
    (log,) = client.get(f"/leader/runs/{found['seq']}").json()["logs"]
    assert "raise error" in log["traceback"]
    assert "starlette" not in log["traceback"], "the traceback is the job's"
    assert found["outcome"] == "failed"
    assert str(error) in found["error"]
    assert [f"rolled back: {error!r}"] == SEEN
    assert Session.open == 0


def test_they_are_closed_when_the_job_is_too_slow(election: Election, serve: Callable[..., TestClient]) -> None:
    @election.scheduled_job("date", id="job", timeout=0.1)
    async def job(session: Annotated[Session, Depends(get_session)]) -> None:
        await asyncio.Event().wait()

    assert outcome(serve(), "job")["outcome"] == "failed"
    assert Session.open == 0


@pytest.mark.parametrize("inside", [False, True])
def test_the_overrides_and_the_state_of_the_application_count(
    election: Election, serve: Callable[..., TestClient], inside: bool
) -> None:
    @election.scheduled_job("date", id="job")
    async def job(settings: Annotated[str, Depends(get_settings)], name: Annotated[str, Depends(get_name)]) -> None:
        SEEN.append((settings, name))

    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[None]:
        app.state.name = "application"
        yield

    app = FastAPI(lifespan=election.lifespan.inside(own) if inside else election.lifespan)
    app.state.name = "application"
    app.dependency_overrides[get_settings] = lambda: "overridden"
    outcome(serve(app), "job")
    assert SEEN == [("overridden", "application")]


def test_a_job_that_was_added_at_run_time_has_them(election: Election, serve: Callable[..., TestClient]) -> None:
    app = FastAPI(lifespan=election.lifespan)

    @app.post("/add")
    async def add() -> None:
        await election.add_job(stored_job, "date", id="job", kwargs={"name": "added"})

    client = serve(app)
    assert client.post("/add").status_code == 200
    assert outcome(client, "job")["outcome"] == "succeeded"
    assert SEEN == [("added", "Session", 1)]


@pytest.mark.parametrize("plain", [False, True])
def test_a_dependency_that_needs_a_request_fails_the_run(
    election: Election, serve: Callable[..., TestClient], plain: bool
) -> None:
    """A job has no request: the error of the run names the missing value."""

    def count(page: Annotated[int, Depends(get_page)]) -> None:
        SEEN.append(page)

    async def count_async(page: Annotated[int, Depends(get_page)]) -> None:
        SEEN.append(page)

    election.add_job(count if plain else count_async, "date", id="job")
    found = outcome(serve(), "job")
    assert found["outcome"] == "failed"
    assert "the job's dependencies cannot be provided" in found["error"]
    assert '"page"' in found["error"]


def test_a_dependency_that_fastapi_refuses_is_no_job(election: Election) -> None:
    async def job(session: Annotated[Session, Depends(get_session), Depends("nothing")]) -> None:  # type: ignore[arg-type]
        """A dependency that yields nothing."""

    with pytest.raises(JobDefinitionError, match="its dependencies cannot be provided"):
        election.add_job(job, "date", id="job")


if TYPE_CHECKING:
    from decimal import Decimal


def test_an_annotation_that_only_a_type_checker_knows(election: Election, serve: Callable[..., TestClient]) -> None:
    @election.scheduled_job("date", id="job")
    async def job(session: Annotated[Session, Depends(get_session)], number: Decimal | None = None) -> None:
        SEEN.append((Session.open, number))

    outcome(serve(), "job")
    assert SEEN == [(1, None)]


def test_a_job_without_is_called_as_it_is(election: Election) -> None:
    async def job(argument: str = "") -> None:
        """A job."""

    election.add_job(job, "date", id="job")
    assert next(iter(election._jobs)).func is job
    with pytest.raises(JobDefinitionError, match="session"):
        election.add_job(stored_job, "date", id="given", kwargs={"session": 1})


def timed(func: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that is not aware of coroutines."""

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize("wraps", [True, False])
@pytest.mark.parametrize("fails", [False, True])
def test_dependencies_are_open_while_a_decorated_coroutine_runs(
    election: Election, serve: Callable[..., TestClient], wraps: bool, fails: bool
) -> None:
    async def job(session: Annotated[Session, Depends(get_session)]) -> None:
        await asyncio.sleep(0)
        SEEN.append(Session.open)
        if fails:
            raise ValueError("wrong")

    def returns_a_coroutine(session: Annotated[Session, Depends(get_session)]) -> Any:
        return job(session)

    election.scheduled_job("date", id="job")(timed(job) if wraps else returns_a_coroutine)
    assert outcome(serve(), "job")["outcome"] == ("failed" if fails else "succeeded")
    assert [1, *(["rolled back: ValueError('wrong')"] if fails else [])] == SEEN
    assert Session.open == 0


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration(), asyncio.CancelledError()])
@pytest.mark.parametrize("kind", ["plain", "coroutine", "returned"])
def test_pitfall_57_no_exception_of_a_job_ends_the_worker(
    election: Election, serve: Callable[..., TestClient], kind: str, error: BaseException
) -> None:
    def plain(session: Annotated[Session, Depends(get_session)]) -> None:
        raise error

    async def coroutine(session: Annotated[Session, Depends(get_session)]) -> None:
        raise error

    def returned(session: Annotated[Session, Depends(get_session)]) -> Any:
        return coroutine(session)

    election.scheduled_job("date", id="job")({"plain": plain, "coroutine": coroutine, "returned": returned}[kind])
    client = serve()
    assert outcome(client, "job")["outcome"] in {"failed", "interrupted"}
    assert client.get("/leader").status_code == 200
    assert Session.open == 0


def test_a_returned_coroutine_can_be_cancelled(election: Election, serve: Callable[..., TestClient]) -> None:
    async def endless() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            SEEN.append(f"cancelled with {Session.open} open")

    @election.scheduled_job("date", id="job", timeout=2)  # the thread that comes before takes time as well
    def job(session: Annotated[Session, Depends(get_session)]) -> Any:
        return endless()

    found = outcome(serve(), "job")
    assert (found["outcome"], "timed out" in found["error"]) == ("failed", True)
    assert SEEN == ["cancelled with 1 open"]
    assert Session.open == 0


def test_a_decorator_may_wait_for_its_coroutine_in_its_thread(
    election: Election, serve: Callable[..., TestClient]
) -> None:
    async def job(session: Annotated[Session, Depends(get_session)]) -> None:
        SEEN.append(Session.open)

    @functools.wraps(job)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        asyncio.run(job(*args, **kwargs))

    election.scheduled_job("date", id="job")(wrapper)
    assert outcome(serve(), "job")["outcome"] == "succeeded"
    assert SEEN == [1]


TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


async def set_tenant() -> None:
    TENANT.set("acme")


@pytest.mark.parametrize("kind", ["plain", "coroutine", "decorated"])
def test_a_job_sees_the_variables_that_its_dependencies_set(
    election: Election, serve: Callable[..., TestClient], kind: str
) -> None:
    def job(tenant: Annotated[None, Depends(set_tenant)]) -> None:
        SEEN.append((TENANT.get(), current_run() is not None))

    async def coroutine(tenant: Annotated[None, Depends(set_tenant)]) -> None:
        job(tenant)

    election.scheduled_job("date", id="job")(
        {"plain": job, "coroutine": coroutine, "decorated": timed(coroutine)}[kind]
    )
    assert outcome(serve(), "job")["outcome"] == "succeeded"
    assert SEEN == [("acme", True)]


# --- a plain function whose dependencies are not provided yet ---------------------------------------------------------


class Pool:
    """A connection pool that has no connection to give, in the cases below: a dependency waits for ever."""

    waiting = 0
    swallows = False

    @classmethod
    async def get(cls, session: Annotated[Session, Depends(get_session)]) -> str:
        cls.waiting += 1
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            SEEN.append(f"cancelled with {Session.open} open")
            if not cls.swallows:
                raise
        return "connection"


@pytest.fixture(params=[False, True], ids=["", "swallows"])
def pool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[Pool]:
    monkeypatch.setattr(Pool, "waiting", 0)
    monkeypatch.setattr(Pool, "swallows", request.param)
    return Pool


def waits(connection: Annotated[str, Depends(Pool.get)]) -> None:
    SEEN.append("called")


def test_a_plain_job_is_timed_out_while_a_dependency_hangs(
    election: Election, serve: Callable[..., TestClient], pool: type[Pool], caplog: pytest.LogCaptureFixture
) -> None:
    election.add_job(waits, "date", id="job", timeout=0.2)
    found = outcome(serve(), "job")
    assert (found["outcome"], found["error"]) == (
        "failed",
        "TimeoutError: timed out: it ran for longer than its timeout of 0.2 s",
    )
    assert SEEN == ["cancelled with 1 open"]
    assert Session.open == 0
    assert "cannot be stopped" not in caplog.text


@pytest.mark.anyio
@pytest.mark.parametrize("by", [CancelledBy.REQUEST, CancelledBy.LATER_TICK], ids=["request", "later tick"])
async def test_a_plain_job_is_cancelled_while_a_dependency_hangs(
    tmp_path: Path, pool: type[Pool], by: CancelledBy
) -> None:
    election = Election(tmp_path / "pool", heartbeat=0.1)
    if by is CancelledBy.REQUEST:
        election.add_job(waits, "date", id="job")
    else:
        election.add_job(waits, "interval", seconds=1, id="job", overlap="cancel_running")
    async with election:
        await until_async(lambda: pool.waiting)
        if by is CancelledBy.REQUEST:
            [run] = await election.jobs.runs()
            await election.jobs.cancel(run.seq)
        await until_async(lambda: election.jobs.runs(outcome="interrupted"))
        ended = await election.jobs.runs(outcome="interrupted")
        assert ended[-1].error == f"cancelled: {by}"


@pytest.mark.anyio
@pytest.mark.parametrize("rerun", [False, True])
async def test_a_leader_resigns_while_a_dependency_of_a_plain_job_hangs(
    tmp_path: Path, pool: type[Pool], rerun: bool
) -> None:
    """It kept the seat for ever."""
    election = Election(tmp_path / "pool", heartbeat=0.1, drain_timeout=0.1)
    election.add_job(waits, "date", id="job", rerun_interrupted=rerun)
    async with asyncio.timeout(30):
        async with election:
            await until_async(lambda: pool.waiting)
        [run] = await election.jobs.runs()
    assert run.outcome == (None if rerun else "interrupted")
    assert SEEN == ["cancelled with 1 open"]
    assert Session.open == 0


@pytest.mark.anyio
async def test_p5_the_thread_of_a_plain_dependency_belongs_to_its_run(tmp_path: Path) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def wait() -> str:
        begun.set()
        may_end.wait(30)
        SEEN.append("provided")
        return "value"

    def job(value: str = Depends(wait)) -> None:
        SEEN.append("called")

    election = Election(tmp_path / "pool", heartbeat=0.1, drain_timeout=0.1)
    election.add_job(job, "date", id="job")
    await election.__aenter__()
    await until_async(begun.is_set)
    leaving = asyncio.ensure_future(election.__aexit__(None, None, None))
    await asyncio.wait([leaving], timeout=1)
    assert not leaving.done()
    may_end.set()
    await leaving
    assert SEEN == ["provided", "called"]
