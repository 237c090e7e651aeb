"""Lifespans, and the warning about startup and shutdown handlers that a lifespan disables."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from election import Election, PoolInUseError
from tests.support.logs import logged
from tests.support.waiting import until_async

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of on_event


@asynccontextmanager
async def of_the_application(_: object) -> AsyncIterator[None]:
    yield


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in logged(caplog, "handlers_ignored")]


def _serve(app: FastAPI) -> list[str]:
    called: list[str] = []

    @app.on_event("startup")
    async def connect() -> None:
        called.append("connect")

    @app.on_event("shutdown")
    def disconnect() -> None:
        called.append("disconnect")

    with TestClient(app):
        pass
    return called


@pytest.mark.parametrize("inside", [False, True])
def test_handlers_that_are_not_called_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture, inside: bool) -> None:
    election = Election(tmp_path / "pool")
    lifespan: Any = election.lifespan.inside(of_the_application) if inside else election.lifespan
    assert _serve(FastAPI(lifespan=lifespan)) == []
    [warning] = _warnings(caplog)
    assert "connect" in warning and "disconnect" in warning and "election.lifespan.inside(yours)" in warning


def test_handlers_that_are_called_are_not_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The application's default lifespan calls them, also with the election inside."""
    election = Election(tmp_path / "pool")
    app = FastAPI()
    app.router.lifespan_context = election.lifespan.inside(app.router.lifespan_context)
    assert _serve(app) == ["connect", "disconnect"]
    assert _warnings(caplog) == []


def test_without_handlers_nothing_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with TestClient(FastAPI(lifespan=Election(tmp_path / "pool").lifespan)):
        pass
    assert _warnings(caplog) == []


def test_a_logger_that_logging_config_has_switched_off_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``dictConfig`` disables all existing loggers by default."""
    monkeypatch.setattr(logging.getLogger("election"), "disabled", True)
    app = FastAPI(lifespan=Election(tmp_path / "pool").lifespan)
    with pytest.warns(RuntimeWarning, match="disable_existing_loggers=False"), TestClient(app):
        pass


@pytest.mark.anyio
async def test_a_shutdown_that_is_cancelled_lets_the_election_start_again(tmp_path: Path) -> None:
    """As by a second Ctrl-C: the drain goes on, and gives the seat up when the job has ended."""
    election, begun, may_end = Election(tmp_path / "pool", heartbeat=0.05), asyncio.Event(), asyncio.Event()

    @election.scheduled_job("date", id="job")
    async def job() -> None:
        begun.set()
        await may_end.wait()

    await election.__aenter__()
    await asyncio.wait_for(begun.wait(), 60)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await election.__aexit__()
    may_end.set()

    async def starts() -> bool:
        try:
            await election.__aenter__()
        except PoolInUseError:
            return False
        return True

    await until_async(starts, what="the seat is given up, and the election starts")
    await asyncio.wait_for(election.wait_until_leading(), 60)
    await election.__aexit__()
