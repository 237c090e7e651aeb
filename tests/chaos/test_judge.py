"""Tests of the judge: a clean history passes, and one with a planted break fails, by the promise that it breaks."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from .breaks import BREAKS, HARMLESS
from .facts import Fact, in_order
from .history import SECOND, Injected
from .judge import CHECKS, judge
from .making import LENGTH, ONE, at, clean, fact, injected, ns
from .report import report, words
from .server_breaks import SERVER_BREAKS, SERVER_HARMLESS
from .vacancy import percentiles

EVERY_BREAK = BREAKS | SERVER_BREAKS
EVERY_HARMLESS = HARMLESS | SERVER_HARMLESS


def test_a_clean_history_is_green() -> None:
    assert judge(clean()) == []


@pytest.mark.parametrize("name", EVERY_BREAK)
def test_a_planted_break_is_red(name: str) -> None:
    promise, plant = EVERY_BREAK[name]
    found = judge(plant(clean()))
    assert promise in {violation.promise for violation in found}, found


def test_every_check_finds_something() -> None:
    """Every check is needed: for each there is a break that it finds."""
    planted = [plant(clean()) for _, plant in BREAKS.values()]
    assert [check.__name__ for check in CHECKS if not any(list(check(history)) for history in planted)] == []


@pytest.mark.parametrize("name", EVERY_HARMLESS)
def test_what_may_happen_is_green(name: str) -> None:
    assert judge(EVERY_HARMLESS[name](clean())) == []


def test_the_vacancies_are_measured_from_the_fault_to_the_next_term() -> None:
    kinds = percentiles(clean())
    assert kinds["kill leader"]["vacancy_ms"] == {"of": 1, "p50": 10.0, "p90": 10.0, "max": 10.0}
    assert kinds["terminate leader"]["vacancy_ms"]["max"] == pytest.approx(220)
    assert kinds["remove lock"]["vacancy_ms"]["max"] == pytest.approx(420)
    assert kinds["kill leader"]["silence_ms"]["max"] == pytest.approx(250, abs=15)


def test_a_fault_that_another_overtook_is_not_measured() -> None:
    history = clean()
    early = replace(injected("kill leader"), at=ns(10.1) - SECOND // 1000)
    history = replace(history, faults=[early, *history.faults])
    assert percentiles(history)["kill leader"]["vacancy_ms"]["of"] == 1


def test_an_ordered_fault_counts_from_its_being_obeyed() -> None:
    ordered = Injected("block leader", ns(5), ns(6), ONE.pid, 1, 3)
    obeyed = ordered.as_obeyed([Fact("order", ns(4), ONE.pid), Fact("order", ns(5.04), ONE.pid)])
    assert (obeyed.at, obeyed.until) == (ns(5.04), ns(6.04))
    killed = injected("kill leader")
    assert killed.as_obeyed([Fact("order", ns(10.2), ONE.pid)]) == killed


def test_the_verdict_in_words() -> None:
    history = clean()
    told = "\n".join(words(report(history, judge(history), seed=1)))
    assert "GREEN" in told
    history = replace(history, facts=in_order([*history.facts, fact("begin", "each_second", 5, 5.5, ONE)]))
    told = "\n".join(words(report(history, judge(history), seed=1)))
    assert "RED" in told
    assert f"P3 broken: each_second: attempt 1 began 2 times ({at(5).isoformat()})" in told


def test_the_clean_history_is_one_of_which_something_can_be_said() -> None:
    """Otherwise a pass would prove nothing."""
    history = clean()
    assert len(history.runs) > 100
    assert any(each.attempts for each in history.runs), "a run was cut off and run again"
    assert history.until - history.since == timedelta(seconds=LENGTH)
