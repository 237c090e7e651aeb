"""The log of the package never raises: a handler of the application that fails stops no job."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from election import Election
from election.core.logs import guard
from tests.support.waiting import until_async

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Failing(logging.Filter):
    """A filter as applications have them: it needs a variable that only requests have."""

    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self.error = error

    def filter(self, record: logging.LogRecord) -> bool:
        raise self.error("request_id")


@contextmanager
def failing_handler(level: int, error: type[BaseException] = LookupError) -> Iterator[None]:
    handler = logging.StreamHandler()
    handler.setLevel(level)
    handler.addFilter(Failing(error))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize("level", [logging.DEBUG, logging.WARNING, logging.ERROR], ids=logging.getLevelName)
async def test_p4_pitfall_64_jobs_go_on_though_no_line_can_be_logged(tmp_path: Path, level: int) -> None:
    election, ran = Election(tmp_path / "pool", heartbeat=0.1), list[str]()

    @election.scheduled_job("interval", seconds=0.1, id="overlaps")
    async def overlaps() -> None:
        await until_async(lambda: len(ran) % 3 == 0)

    @election.scheduled_job("interval", seconds=0.1, id="fails")
    async def fails() -> None:
        raise ValueError("no luck")

    @election.scheduled_job("interval", seconds=0.1, id="works")
    async def works() -> None:
        ran.append("works")

    with failing_handler(level):
        async with election:
            await until_async(lambda: len(ran) >= 8)
            assert {run.outcome for run in await election.jobs.runs("fails")} >= {"failed"}
    runs = await election.jobs.runs("fails")
    assert [run for run in runs if run.outcome not in {"failed", None}] == []
    assert len(runs) >= 5


@pytest.mark.parametrize("error", [LookupError, GeneratorExit])
def test_what_could_not_be_logged_is_reported(capsys: pytest.CaptureFixture[str], error: type[BaseException]) -> None:
    logger = guard(logging.getLogger("tests.guarded"))
    assert guard(logger) is logger
    with failing_handler(logging.INFO, error):
        logger.warning("lost")
    assert "--- Logging error ---" in capsys.readouterr().err


@pytest.mark.parametrize("error", [LookupError, GeneratorExit])
def test_a_record_factory_that_raises_loses_no_line(
    caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    logger, before = guard(logging.getLogger("tests.guarded")), logging.getLogRecordFactory()

    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        raise error("request_id")

    logging.setLogRecordFactory(factory)
    try:
        logger.warning("line %d", 1, extra={"event": "lost"})
    finally:
        logging.setLogRecordFactory(before)
    (record,) = caplog.records
    assert (record.getMessage(), record.filename) == ("line 1", "test_logs.py")
    assert (record.funcName, record.__dict__["event"]) == (
        "test_a_record_factory_that_raises_loses_no_line",
        "lost",
    )
