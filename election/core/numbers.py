"""Numbers that a caller gives, checked where they enter: NaN passes each comparison, and a text fails far from here."""

from __future__ import annotations

import math
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

from .errors import ConfigurationError

LONGEST_S = 100 * 366 * 86400
"""Seconds that stand for any longer time, as for infinity: with those, no date could be computed."""

MOST = 2**31 - 1
"""Number that stands for any larger one."""


def to_seconds(value: Any, name: str, *, at_least: float | None = None) -> float:
    """Return a time in seconds, ``LONGEST_S`` at most.

    Args:
        value: Any kind of number.
        name: What the number is, for the message.
        at_least: Smallest time that is possible; None if it has to be more than 0.

    Raises:
        ConfigurationError: It is no number, or too small.
    """
    if not _is_number(value) or (value <= 0 if at_least is None else value < at_least):
        limit = "more than 0" if at_least is None else f"not less than {at_least:g}"
        raise ConfigurationError(f"{name} is a number of seconds, {limit}, not {value!r}")
    return float(min(value, LONGEST_S))


def to_count(value: Any, name: str, *, at_least: int = 1) -> int:
    """Return a whole number, ``MOST`` at most.

    Args:
        value: An integer of any kind, or a float without a fraction.
        name: What the number is, for the message.
        at_least: Smallest number that is possible.

    Raises:
        ConfigurationError: It is no whole number, or too small.
    """
    is_whole = isinstance(value, Integral) or (isinstance(value, float) and value.is_integer())
    if not is_whole or isinstance(value, bool) or value < at_least:
        raise ConfigurationError(f"{name} is a whole number, not less than {at_least}, not {value!r}")
    return int(min(value, MOST))


def _is_number(value: object) -> bool:
    if isinstance(value, Decimal):
        return not value.is_nan()
    is_nan = isinstance(value, float) and math.isnan(value)
    return isinstance(value, Real) and not isinstance(value, bool) and not is_nan
