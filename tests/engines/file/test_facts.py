"""The judge of all the other tests, judged."""

from __future__ import annotations

import pytest

from tests.engines.file.facts import Fact, violations


def history(*rows: tuple[int, str, int]) -> list[Fact]:
    return [Fact(float(number), pid, what, term) for number, (pid, what, term) in enumerate(rows)]


GOOD = [
    [(1, "begin", 1), (1, "tick", 1), (1, "end", 1), (2, "begin", 2), (2, "tick", 2)],
    [(1, "begin", 1), (1, "killed", 0), (1, "tick", 1), (2, "begin", 5)],
    [(1, "begin", 1), (1, "end", 1), (1, "begin", 2)],
    [(1, "killed", 0), (2, "begin", 1)],
]
BAD = [
    [(1, "begin", 1), (2, "begin", 2)],
    [(1, "begin", 1), (1, "end", 1), (2, "begin", 1)],
    [(1, "begin", 2), (1, "end", 2), (2, "begin", 1)],
    [(1, "begin", 1), (1, "end", 1), (1, "tick", 1)],
    [(1, "begin", 1), (1, "killed", 0), (2, "begin", 2), (1, "tick", 1)],
    [(1, "begin", 1), (1, "end", 1), (2, "begin", 2), (1, "tick", 1)],
]


@pytest.mark.parametrize("rows", GOOD)
def test_a_good_history(rows: list[tuple[int, str, int]]) -> None:
    assert violations(history(*rows)) == []


@pytest.mark.parametrize("rows", BAD)
def test_a_history_that_breaks_a_promise(rows: list[tuple[int, str, int]]) -> None:
    assert len(violations(history(*rows))) == 1
