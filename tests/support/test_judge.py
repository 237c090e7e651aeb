"""The judge of histories: a clean one has no violations, and each planted break is found under its promise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.judge import CHECKS, Fact, check_claimed, check_recorded_terms, spans, violations


def history(*rows: tuple[int, str, int]) -> list[Fact]:
    """Facts of (pid, event, term), a second apart."""
    return [Fact(float(number), pid, event, term) for number, (pid, event, term) in enumerate(rows)]


def promises(facts: list[Fact], **options: Any) -> set[str]:
    return {violation.promise for violation in violations(facts, **options)}


# --- work, as processes write it down ------------------------------------------------------------------------------

WORK = [
    [(1, "begin", 1), (1, "tick", 1), (1, "end", 1), (2, "begin", 2), (2, "tick", 2)],
    [(1, "begin", 1), (1, "killed", 0), (1, "tick", 1), (2, "begin", 5)],
    [(1, "begin", 1), (1, "killed", 0), (1, "end", 1), (2, "begin", 2)],
    [(1, "begin", 1), (1, "end", 1), (1, "begin", 2)],
    [(1, "killed", 0), (2, "begin", 1)],
]
BROKEN_WORK = [
    ("P1", [(1, "begin", 1), (2, "begin", 2)]),
    ("P2", [(1, "begin", 1), (1, "end", 1), (2, "begin", 1)]),
    ("P2", [(1, "begin", 2), (1, "end", 2), (2, "begin", 1)]),
    ("P2", [(1, "begin", 1), (1, "end", 1), (1, "begin", 1)]),
    ("P5", [(1, "begin", 1), (1, "end", 1), (1, "tick", 1)]),
    ("P5", [(1, "begin", 1), (1, "tick", 2)]),
    ("P5", [(1, "begin", 1), (1, "end", 1), (1, "end", 1)]),
    ("P5", [(1, "begin", 1), (1, "killed", 0), (2, "begin", 2), (1, "tick", 1)]),
    ("P5", [(1, "begin", 1), (1, "end", 1), (2, "begin", 2), (1, "tick", 1)]),
    ("P5", [(1, "begin", 1), (1, "crashed", 1), (1, "tick", 1)]),
    ("P1", [(1, "begin", 1), (1, "end", 1), (2, "begin", 2), (1, "tick", 1)]),
]


@pytest.mark.parametrize("rows", WORK)
def test_work_in_good_order(rows: list[tuple[int, str, int]]) -> None:
    assert violations(history(*rows)) == []


@pytest.mark.parametrize(("promise", "rows"), BROKEN_WORK)
def test_work_that_breaks_a_promise(promise: str, rows: list[tuple[int, str, int]]) -> None:
    assert promise in promises(history(*rows))


# --- a seat, as simulated pools write it down ----------------------------------------------------------------------

SEAT = history(
    (1, "won", 1),
    (1, "begin", 1),
    (1, "end", 1),
    (1, "released", 1),
    (2, "won", 2),
    (2, "begin", 2),
    (2, "crashed", 2),
    (3, "won", 3),
)


def test_a_seat_in_good_order() -> None:
    assert violations(SEAT) == []


def test_a_worker_whose_release_failed_may_win_the_seat_that_it_still_holds() -> None:
    again = [replace(SEAT[4], pid=1), replace(SEAT[5], pid=1)]
    assert violations([*SEAT[:3], *again]) == []


@pytest.mark.parametrize(
    ("without", "changed", "promise"),
    [
        ({3}, {}, "P1"),  # a second worker wins while the first still holds the seat
        ({2}, {}, "P5"),  # the seat is released before the work has ended
        ({6}, {}, "P1"),
        ({0}, {}, "P5"),  # work before a term
        (set(), {4: Fact(4, 2, "won", 1)}, "P2"),
        ({2, 3}, {4: Fact(4, 1, "won", 2)}, "P1"),  # a second begin during its own work
        (set(), {5: Fact(5, 1, "begin", 2)}, "P5"),
        (set(), {7: Fact(7, 3, "begin", 3)}, "P5"),
        (set(), {7: Fact(7, 1, "end", 1)}, "P5"),
        (set(), {3: Fact(3, 2, "released", 1)}, "P5"),
    ],
)
def test_a_seat_that_breaks_a_promise(without: set[int], changed: dict[int, Fact], promise: str) -> None:
    facts = [changed.get(number, fact) for number, fact in enumerate(SEAT) if number not in without]
    assert promise in promises(facts)


# --- job code and the ledger ---------------------------------------------------------------------------------------


def job(event: str, at: float, due: int, term: int, attempt: int = 1) -> Fact:
    return Fact(at, {1: 101, 2: 102}[term], event, term, "job", due, attempt)


LEDGER = [
    Fact(0, 101, "term", 1),
    Fact(10, 101, "term over", 1),
    Fact(11, 102, "term", 2),
    *(job("run", 0, due, term) for due, term in ((5, 1), (9, 2), (12, 2))),
    *(job("claim", 0, due, term) for due, term in ((5, 1), (9, 1), (12, 2))),
    job("claim", 0, 9, 2, attempt=2),
]
RUNS = [
    *(job("begin", 5, 5, 1), job("end", 5.5, 5, 1)),
    *(job("begin", 9, 9, 1), job("begin", 11.5, 9, 2, attempt=2), job("end", 11.9, 9, 2, attempt=2)),
    *(job("begin", 12, 12, 2), job("end", 12.5, 12, 2)),
]
KNOWN = [*LEDGER, *RUNS]


def all_known(fact: Fact) -> bool:
    return False


def test_runs_in_good_order() -> None:
    assert violations(KNOWN, unrecorded=all_known) == []
    assert violations(RUNS) == [], "without a ledger"


BROKEN_RUNS = {
    "a tick begins twice": ("P3", [job("begin", 6, 5, 1)]),
    "a tick has two runs": ("P3", [job("run", 0, 5, 2)]),
    "an attempt that nobody claimed": ("P3", [job("begin", 13, 13, 2)]),
    "an attempt that another term claimed": ("P3", [job("begin", 11.5, 5, 2)]),
    "code before its term": ("P5", [job("tick", 10.5, 12, 2)]),
    "code after its term": ("P5", [job("end", 10.5, 9, 1)]),
    "code of a term that never began": ("P5", [Fact(20, 103, "leading", 3)]),
    "code of a former term": ("P1", [job("tick", 12, 9, 1)]),
    "a term of two processes": ("P2", [Fact(12, 999, "leading", 2)]),
    "a term that another process is said to lead": ("P2", [Fact(12, 999, "named", 2)]),
    "a number that is used again": ("P2", [Fact(14, 102, "term", 2)]),
    "a number that went back": ("P2", [Fact(-1, 103, "term", 3)]),
    "an answer within another term": ("P1", [Fact(12, 101, "leads", 1, until=12.1)]),
}


@pytest.mark.parametrize("name", BROKEN_RUNS)
def test_runs_that_break_a_promise(name: str) -> None:
    promise, planted = BROKEN_RUNS[name]
    assert promise in promises([*KNOWN, *planted], unrecorded=all_known)


def test_a_ledger_that_is_empty_knows_of_nothing() -> None:
    assert promises(RUNS, unrecorded=all_known) == {"P3", "P5"}


def test_a_term_that_could_not_be_written_down_is_excused() -> None:
    late = Fact(20, 103, "leading", 3)
    assert violations([*KNOWN, late], unrecorded=lambda fact: fact == late) == []


def test_an_answer_counts_for_an_unknown_instant() -> None:
    """A request before the end of a term may be answered after the beginning of the next."""
    assert violations([*KNOWN, Fact(9.9, 101, "leads", 1, until=12)], unrecorded=all_known) == []
    span = spans([Fact(9.9, 101, "leads", 1, until=12)])[1]
    assert (span.begun, span.over) == (12, 9.9)


def test_every_check_finds_something() -> None:
    planted = [
        *(history(*rows) for _, rows in BROKEN_WORK),
        [fact for fact in SEAT if fact.event != "released"],
        *([*KNOWN, *more] for _, more in BROKEN_RUNS.values()),
    ]
    checks = [*CHECKS, check_claimed, lambda facts: check_recorded_terms(facts, all_known)]
    assert [check for check in checks if not any(list(check(facts)) for facts in planted)] == []
