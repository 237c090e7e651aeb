"""Numbers that a caller gives."""

from __future__ import annotations

import math
from datetime import timedelta
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from typing import Any

import pytest

from election.core.errors import ConfigurationError
from election.core.numbers import LONGEST_S, MOST, to_count, to_seconds


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (3, 3.0), (0.25, 0.25), (Decimal("1.5"), 1.5), (Fraction(1, 4), 0.25),
        (math.inf, LONGEST_S), (10**400, LONGEST_S), (Decimal("Infinity"), LONGEST_S),
    ],
)  # fmt: skip
def test_every_kind_of_number_is_one_of_seconds(given: Any, seconds: float) -> None:
    found = to_seconds(given, "timeout")
    assert (type(found), found) == (float, seconds)


@pytest.mark.parametrize(
    "given", [math.nan, Decimal("NaN"), -math.inf, -1, 0, "3", b"3", None, True, [1], 3j, timedelta(seconds=3)]
)
def test_what_is_no_time_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^timeout is a number of seconds, more than 0, not "):
        to_seconds(given, "timeout")


def test_a_time_may_have_a_least_one() -> None:
    assert to_seconds(0, "drain_timeout", at_least=0) == 0
    with pytest.raises(ConfigurationError, match=r"drain_timeout is a number of seconds, not less than 0, not -0\.5"):
        to_seconds(-0.5, "drain_timeout", at_least=0)


class Level(IntEnum):
    HIGH = 3


@pytest.mark.parametrize(("given", "number"), [(3, 3), (2.0, 2), (Level.HIGH, 3), (10**400, MOST)])
def test_every_kind_of_whole_number_is_a_count(given: Any, number: int) -> None:
    found = to_count(given, "retries")
    assert (type(found), found) == (int, number)


@pytest.mark.parametrize(
    "given",
    [math.nan, Decimal("NaN"), Decimal("sNaN"), math.inf, Decimal("Infinity"), -1, 0, 1.5, "3", None, True, [1], 3j],
)
def test_what_is_no_count_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^retries is a whole number, not less than 1, not "):
        to_count(given, "retries")
