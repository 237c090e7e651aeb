"""The judge of histories sees what it is there to see."""

from __future__ import annotations

import pytest

from election.testing import Happening
from tests.core.history import violations

GOOD = [
    Happening(0.0, 1, "won", 1),
    Happening(0.1, 1, "begin", 1),
    Happening(0.2, 1, "end", 1),
    Happening(0.3, 1, "released", 1),
    Happening(0.4, 2, "won", 2),
    Happening(0.5, 2, "begin", 2),
    Happening(0.6, 2, "crashed", 2),
    Happening(0.7, 3, "won", 3),
]


def test_a_good_history_has_no_violations() -> None:
    assert violations(GOOD) == []


def test_who_could_not_release_may_win_what_it_still_holds() -> None:
    assert violations([*GOOD[:3], Happening(0.4, 1, "won", 2), Happening(0.5, 1, "begin", 2)]) == []


@pytest.mark.parametrize(
    ("without", "changed", "promise"),
    [
        ({3}, {}, "P1"),  # a second one wins while the first still holds
        ({2}, {}, "P5"),  # the seat goes before the work has ended
        ({6}, {}, "P1"),
        ({0}, {}, "P5"),  # work before a term
        (set(), {4: Happening(0.4, 2, "won", 1)}, "P2"),
        ({2, 3}, {4: Happening(0.4, 1, "won", 2)}, "P1"),  # again, while its own work goes on
        (set(), {5: Happening(0.5, 1, "begin", 2)}, "P5"),
        (set(), {7: Happening(0.7, 3, "begin", 3)}, "P5"),
        (set(), {7: Happening(0.7, 1, "end", 1)}, "P5"),
    ],
)
def test_a_bad_one_is_told(without: set[int], changed: dict[int, Happening], promise: str) -> None:
    history = [changed.get(number, line) for number, line in enumerate(GOOD) if number not in without]
    assert any(told.startswith(promise) for told in violations(history))
