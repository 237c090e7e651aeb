"""Cron expressions as cron reads them: five fields or six, in which Sunday is 0 and 7, and ``@daily`` and the like.

The expression is read by cronsim, Healthchecks' parser of Debian's syntax, and becomes APScheduler's own triggers, so
that it is kept, compared and shown like any other cron trigger. APScheduler's ``CronTrigger.from_crontab`` counts
weekdays from Monday, and joins day of month and day of week with "and" where cron uses "or".
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger
from cronsim import CronSim, CronSimError

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
"""Names for expressions, as in Debian's cron."""

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""Names of weekdays as APScheduler counts them, from 0."""

_NTH = {1: "1st", 2: "2nd", 3: "3rd", 4: "4th", 5: "5th", CronSim.LAST: "last"}


def parse_crontab(expression: str, *, jitter: int | None = None, **options: Any) -> BaseTrigger:
    """Return the trigger of a cron expression.

    Args:
        expression: Minute, hour, day of month, month, day of week; with seconds before these if there are six fields.
            Numbers, names, lists, ranges and steps; ``L`` for the last day of the month, ``fri#2`` for the second and
            ``5L`` for the last Friday. If both days are restricted, either of them counts.
        jitter: As in ``CronTrigger``, in seconds.
        options: ``timezone``, ``start_date`` and ``end_date`` of ``CronTrigger``.

    Raises:
        ValueError: It is no cron expression, or one that has no equivalent.
    """
    parts = _split(expression)
    try:
        parsed: Any = CronSim(" ".join(parts), datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise ValueError(f"{expression!r} is no cron expression: {error}") from None
    if CronSim.LAST_WEEKDAY in parsed.days:
        raise ValueError(f"{expression!r}: LW, the last weekday of a month, is not supported")
    fields = {
        "second": _field(parts[0], parsed.seconds),
        "minute": _field(parts[1], parsed.minutes),
        "hour": _field(parts[2], parsed.hours),
        "month": _field(parts[4], parsed.months),
    }
    choices = [
        CronTrigger(**fields, **days, **options, jitter=None) for days in _days(expression, parts[3], parts[5], parsed)
    ]
    if len(choices) > 1:
        return OrTrigger(choices, jitter=jitter)
    choices[0].jitter = jitter
    return choices[0]


def _split(expression: str) -> list[str]:
    name = expression.strip().lower()
    if name == "@reboot":
        raise ValueError("@reboot has no time: use while_leading for what begins with each term")
    if name.startswith("@") and name not in MACROS:
        raise ValueError(f"{expression!r} is no cron expression; there are {', '.join(MACROS)}")
    parts = MACROS.get(name, expression).split()
    if len(parts) not in {5, 6}:
        raise ValueError(
            f"{expression!r} is no cron expression: it has {len(parts)} fields, and five are needed (minute, hour,"
            " day of month, month, day of week) or six (with seconds before these)"
        )
    return parts if len(parts) == 6 else ["0", *parts]


def _field(text: str, values: Iterable[int]) -> str:
    """Field for APScheduler; ``*`` and steps from it stay as they are, because they recur (see ``CronFields``)."""
    return text if text == "*" or (text.startswith("*/") and text[2:].isdigit()) else _list(sorted(values))


def _list(values: Iterable[object]) -> str:
    return ",".join(map(str, values))


def _days(expression: str, day: str, weekday: str, parsed: Any) -> list[dict[str, str]]:
    """Return the fields ``day`` and ``day_of_week`` of each trigger that is needed."""
    dates = ["last" if value == CronSim.LAST else str(value) for value in sorted(parsed.days)]
    names = _list(name for number, name in enumerate(WEEKDAYS) if {(number + 1) % 7, number + 1} & parsed.weekdays)
    nth = [
        f"{_NTH[number]} {WEEKDAYS[(value - 1) % 7]}"
        for value, number in sorted(item for item in parsed.weekdays if isinstance(item, tuple))
    ]
    if weekday == "*":
        return [{"day": "*" if day == "*" else _list(dates)}]
    if day == "*":
        return [*([{"day_of_week": names}] if names else []), *([{"day": _list(nth)}] if nth else [])]
    if not parsed.day_and:
        return [{"day": _list([*dates, *nth])}, *([{"day_of_week": names}] if names else [])]
    if nth:
        raise ValueError(f"{expression!r}: a step of days cannot be combined with # or L of a weekday")
    return [{"day": _list(dates), "day_of_week": names}]
