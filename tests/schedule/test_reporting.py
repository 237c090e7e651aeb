"""One log line per event, in words and with the event's fields."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from election.core.clock import SystemClock
from election.core.events import Event, RunFailed, RunInterrupted, TickSkipped
from election.schedule.commands import Skip
from election.schedule.model import SkipReason, Tick
from election.schedule.reporting import RunReporter
from tests.schedule.making import make_job

DUE = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
TICK = Tick("job", DUE)
RAISED = ValueError("it broke")
JOB = make_job("interval", seconds=1)


@pytest.mark.parametrize(
    ("tell", "kind", "level", "words"),
    [
        (
            lambda teller: teller.failed(JOB, TICK, 2, 0.5, RAISED, "ValueError: it broke", None),
            RunFailed,
            logging.ERROR,
            "job job failed (due 2026-03-02T12:00:00+00:00, attempt 2)",
        ),
        (
            lambda teller: teller.failed(JOB, TICK, 1, 0.5, RAISED, "ValueError: it broke", 4.0),
            RunFailed,
            logging.WARNING,
            "job job failed (due 2026-03-02T12:00:00+00:00, attempt 1); again in 4.0 s",
        ),
        (
            lambda teller: teller.interrupted(TICK, 1, "its leader died"),
            RunInterrupted,
            logging.WARNING,
            "job job was interrupted (due 2026-03-02T12:00:00+00:00, attempt 1): its leader died",
        ),
        (
            lambda teller: teller.skipped(Skip("job", DUE, DUE, 1, SkipReason.OVERLAP, DUE)),
            TickSkipped,
            logging.WARNING,
            "job job: tick overlap (due 2026-03-02T12:00:00+00:00)",
        ),
    ],
)
def test_an_event_is_one_line(
    tell: Callable[[RunReporter], None], kind: type[Event], level: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Event] = []
    tell(RunReporter(7, SystemClock(), told.append))
    (record,) = caplog.records
    (event,) = told
    fields: dict[str, Any] = vars(record)["event"]
    assert isinstance(event, kind)
    assert fields == event.fields()
    assert (record.levelno, record.getMessage(), record.name) == (level, words, "election")
    assert (record.exc_info is not None) == (kind is RunFailed), "what a job raised comes with its traceback"
