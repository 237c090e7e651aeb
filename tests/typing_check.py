"""Read by type checkers only (``make check``), never run: the types that an application's checker sees.

Each comment that ignores an error stands for an error that the checker has to find, since unused ones are errors too.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, assert_type

from apscheduler.triggers.cron import CronTrigger
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient

from election import ConfigurationError, Election, ElectionError, Run, current_run
from election.testing import always_leader
from election.tracing import instrument

election = Election("var/pool")
Election(Path("var/pool"), heartbeat=1, safety_poll=2.0, drain_timeout=30, scheduler_options={"timezone": "UTC"})
Election(b"var/pool")  # type: ignore[arg-type]
Election("var/pool", 0.5)  # type: ignore[call-arg, arg-type]


@election.scheduled_job("interval", seconds=1, id="one", misfire_grace_time=None)
async def one(number: int = 1) -> str:
    return str(number)


@election.scheduled_job(CronTrigger.from_crontab("0 3 * * *"))
def other(number: int) -> int:
    return number


@election.scheduled_job("interval", seconds=1)
@election.scheduled_job("cron", minute=0, id="twice")
def twice() -> None: ...


@election.while_leading
async def task() -> None: ...


@election.while_leading  # type: ignore[type-var]
def no_task() -> None: ...


async def decorated_functions_are_what_they_were() -> None:
    assert_type(await one(2), str)
    assert_type(other(2), int)
    await one("2")  # type: ignore[arg-type]
    other()  # type: ignore[call-arg]


assert_type(election.is_leader, bool)
assert_type(election.term, int | None)
assert_type(election.router, APIRouter)
assert_type(election.metrics, APIRouter)
assert_type(election.health, APIRouter)
instrument(election)


@election.around_runs
@contextmanager
def around(run: Run) -> Iterator[None]:
    yield


@election.around_runs  # type: ignore[type-var]
def around_nothing() -> None: ...


assert_type(election.unfinished_jobs(), list[str])
election.is_leader = True  # type: ignore[misc]


@asynccontextmanager
async def plain(app: FastAPI) -> AsyncIterator[None]:
    async with election as entered:
        assert_type(entered, Election)
        assert_type(await election.resign(), bool)
        yield


@asynccontextmanager
async def with_state(app: FastAPI) -> AsyncIterator[dict[str, int]]:
    yield {"prices": 1}


FastAPI(lifespan=plain)
FastAPI(lifespan=election.lifespan)
FastAPI(lifespan=election.lifespan.inside(plain))
app = FastAPI(lifespan=election.lifespan.inside(with_state))
app.include_router(election.router)


def in_a_job() -> None:
    run = current_run()
    assert_type(run, Run)
    assert_type(run.job_id, str)
    assert_type(run.due, datetime)
    assert_type(run.term, int)
    assert_type(run.attempt, int)
    assert_type(run.key, str)
    run.term = 2  # type: ignore[misc]


def in_a_test() -> None:
    with always_leader(election), TestClient(app) as client:
        client.get("/leader")


def at_the_start(path: os.PathLike[str]) -> str:
    try:
        Election(path).check()
    except ConfigurationError as error:
        assert_type(error.args, tuple[Any, ...])
        return str(error)
    except ElectionError:
        return ""
    return ""
