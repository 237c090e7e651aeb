"""Conversion of single values of a ledger. Times are stored as microseconds since the epoch, in UTC."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from election.core.clock import EPOCH
from election.schedule.model import JobInfo, LogLine, RunLog

_T = TypeVar("_T")
_V = TypeVar("_V")

_MICROSECOND = timedelta(microseconds=1)


def to_us(moment: datetime) -> int:
    """Microseconds since the epoch, exact: a due time is never converted to a float."""
    return (moment.astimezone(UTC) - EPOCH) // _MICROSECOND


def to_us_or_none(moment: datetime | None) -> int | None:
    """``to_us`` of a time that may be missing."""
    return maybe(to_us, moment)


FIRST_US, LAST_US = to_us(datetime.min.replace(tzinfo=UTC)), to_us(datetime.max.replace(tzinfo=UTC))
CONVERTIBLE = f"BETWEEN {FIRST_US} AND {LAST_US}"
"""Condition of a time that can be converted; text and bytes are greater than any number in SQLite."""


def to_time(us: int) -> datetime:
    return EPOCH + us * _MICROSECOND


def integer(value: Any) -> int:
    """Return an integer as it is. Raises ``TypeError`` for others, which SQLite stores in any column."""
    if not isinstance(value, int):
        raise TypeError(f"there is {type(value).__name__} in the place of an integer")
    return value


def number(value: Any) -> float:
    """Return a finite number as it is. Raises ``TypeError`` or ``ValueError`` for others."""
    if not isinstance(value, int | float):
        raise TypeError(f"there is {type(value).__name__} in the place of a number")
    if not math.isfinite(value):
        raise ValueError(f"there is {value} in the place of a number")
    return value


def text(value: Any) -> str:
    """Return a text as it is. Raises ``TypeError`` for others."""
    if not isinstance(value, str):
        raise TypeError(f"there is {type(value).__name__} in the place of a text")
    return value


def parse_object(value: str) -> dict[str, Any]:
    """Object of a JSON text. Raises ``ValueError`` for other JSON."""
    found = json.loads(value)
    if not isinstance(found, dict):
        raise ValueError(f"there is no object, but {value[:100]}")
    return found


def info_text(info: JobInfo) -> str:
    """JSON text for the column ``jobs.info``."""
    return json.dumps({"name": info.name, "description": info.description, "tags": info.tags})


def parse_info(words: str) -> JobInfo | None:
    """Description of a job; None if it cannot be read, so that it is written again."""
    try:
        found = parse_object(words)
        return JobInfo(text(found["name"]), maybe(text, found["description"]), tuple(map(text, found["tags"])))
    except (KeyError, TypeError, ValueError):
        return None


def parse_attempts(words: str) -> list[dict[str, Any]]:
    """Earlier attempts of a run, from their JSON text. Raises ``TypeError`` or ``ValueError`` if it is another one."""
    return [check_attempt(each) for each in json.loads(words)]


def check_attempt(found: Any) -> dict[str, Any]:
    """Return an earlier attempt of a run. Raises ``ValueError`` for what is none."""
    if not isinstance(found, dict) or not {"attempt", "term", "ended_at", "outcome", "error"} <= found.keys():
        raise ValueError(f"there is no attempt of a run, but {found!r:.100}")
    return found


def log_text(log: RunLog) -> str:
    """JSON text of a log, in characters that every database can store."""
    lines = [[to_us(line.at), line.level, line.logger, line.text] for line in log.lines]
    return json.dumps([log.traceback, lines, log.dropped])


def kwargs_text(kwargs: Mapping[str, Any] | None) -> str | None:
    """JSON text of the arguments of a request; None if there are none."""
    return None if kwargs is None else json.dumps(dict(kwargs))


def parse_log(attempt: int, text: str) -> RunLog:
    """The log of an attempt from its ``log_text``."""
    traceback, lines, dropped = json.loads(text)
    return RunLog(attempt, traceback, tuple(LogLine(to_time(at), *rest) for at, *rest in lines), dropped)


def maybe(convert: Callable[[_V], _T], value: _V | None) -> _T | None:
    """The converted value, or None for None."""
    return None if value is None else convert(value)
