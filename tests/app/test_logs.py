"""JSON log lines, as a machine reads them."""

from __future__ import annotations

import json
import logging
import logging.config
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from app.logs import JsonFormatter, log_config


def line(*args: Any, **more: Any) -> dict[str, Any]:
    record = logging.getLogger("election").makeRecord("election", logging.WARNING, "f.py", 1, *args, **more)
    text = JsonFormatter().format(record)
    assert "\n" not in text
    return dict(json.loads(text))


def test_a_line_says_when_what_and_where() -> None:
    found = line("%d ticks", (3,), None)
    at = datetime.fromisoformat(found.pop("ts"))
    assert at.tzinfo is UTC
    assert (datetime.now(UTC) - at).total_seconds() < 10
    assert found.pop("pid") > 1
    assert found == {"level": "warning", "logger": "election", "message": "3 ticks"}


def test_what_a_call_gave_as_extra_is_in_it() -> None:
    found = line("it", (), None, extra={"event": {"event": "took_over", "takeover_ms": 3.5}, "of": object})
    assert found["event"] == {"event": "took_over", "takeover_ms": 3.5}
    assert found["of"] == "<class 'object'>", "what JSON cannot hold is written out"


def test_extra_does_not_hide_what_is_always_there() -> None:
    assert line("it", (), None, extra={"pid": 1, "ts": 2})["pid"] != 1


def test_an_exception_stays_on_its_line() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        found = line("it", (), sys.exc_info())
    assert "ValueError: two\nlines" in found["exception"]


@pytest.fixture
def logging_as_it_was() -> Iterator[None]:
    names = ["", *log_config("info", "text")["loggers"]]
    before = {name: (log := logging.getLogger(name), log.handlers[:], log.level, log.propagate) for name in names}
    yield
    for log, handlers, level, propagate in before.values():
        log.handlers[:], log.propagate = handlers, propagate
        log.setLevel(level)


@pytest.mark.usefixtures("logging_as_it_was")
@pytest.mark.parametrize("name", ["election", "app", "run", "uvicorn.error"])
def test_each_logger_writes_json_if_asked_to(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    logging.config.dictConfig(log_config("info", "json"))
    logging.getLogger(name).info("hello %s", "there")
    logging.getLogger(name).debug("not this")
    (written,) = capsys.readouterr().err.splitlines()
    assert json.loads(written)["message"] == "hello there"
