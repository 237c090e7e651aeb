"""A day, a week, failures, moments and what is coming, on the live page in a real browser."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from election.schedule.model import Outcome
from tests.browser.conftest import APPEARANCES, NewPage, check_with_axe, comes, shown
from tests.support.past import add_runs, write_past
from tests.support.pool import Pool

pytestmark = pytest.mark.extended

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)
FAILURES = [NOW - 50.5 * HOUR, NOW - 26.5 * HOUR, NOW - 3.5 * HOUR]
RUNS = [
    *[(NOW - timedelta(minutes=20 * number) - HOUR, Outcome.SUCCEEDED) for number in range(400)],
    *[(at, Outcome.FAILED) for at in FAILURES],
]

MANY, FAILED = 1_000_000, 10


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """A pool with five days of history, and jobs that are due at noon and each second."""
    directory = tmp_path_factory.mktemp("old")
    pool = Pool(directory, jobs="tick,noon", workers=2)
    asyncio.run(write_past(directory / "pool", "tick", NOW - timedelta(days=6), RUNS))
    try:
        yield pool.start()
    finally:
        pool.reap()


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """A pool with a million runs in six days."""
    directory = tmp_path_factory.mktemp("endless")
    pool, begin = Pool(directory, jobs="tick", workers=2), NOW - timedelta(days=6)
    asyncio.run(write_past(directory / "pool", "tick", begin - HOUR, []))
    add_runs(directory / "pool", "tick", begin, NOW - HOUR, runs=MANY, failed=FAILED)
    try:
        yield pool.start()
    finally:
        pool.reap()


def press(page: Any, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def test_a_day_and_a_week_are_drawn_from_counts(old: Pool, new_page: NewPage) -> None:
    page = new_page(old)
    press(page, "24 h")
    comes(page, "byCounts.told?.complete && document.querySelectorAll('rect.bar.failed').length === 1")
    assert page.evaluate("document.querySelectorAll('rect.bar.succeeded').length") >= 20
    assert page.evaluate("$('picture').querySelector('[data-term]') === null")
    assert " failed" in shown(page, "#counts")
    press(page, "7 d")
    comes(page, "byCounts.days === 7 && byCounts.told?.complete")
    comes(page, "document.querySelectorAll('rect.bar.failed').length === 3")
    page.get_by_text("The timeline as tables").click()
    comes(page, "$('runs-table').tBodies[0].rows.length === byCounts.told.periods.length")
    rows = page.locator("#runs-table tbody tr").all_inner_texts()
    assert len([row for row in rows if "1 failed" in row]) == 3, "the bars as a table"
    assert shown(page, "#runs-table caption") == "Counts in view, latest first"
    assert page.locator("#runs-table thead th").first.inner_text() == "Period"
    check_with_axe(page)


def test_a_bar_leads_to_its_runs(old: Pool, new_page: NewPage) -> None:
    """By keys: the next period that has more than runs that went well, and into it."""
    page = new_page(old)
    press(page, "24 h")
    comes(page, "byCounts.told?.complete")
    page.locator("#timeline").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    comes(page, "$('details').textContent.includes('1 failed')")
    page.keyboard.press("Enter")
    comes(page, "state.span === 3600e3 && document.querySelector('#picture .run.failed') !== null")
    from_ms = page.evaluate("stretch().from")
    assert from_ms <= FAILURES[-1].timestamp() * 1000 <= from_ms + 3600e3


def test_a_million_runs(endless: Pool, new_page: NewPage) -> None:
    """The page is as quick as ever, and each figure is counted, to the last run."""
    page = new_page(endless)
    sizes: list[int] = []
    page.on("response", lambda answer: sizes.append(len(answer.body())))
    press(page, "7 d")
    comes(page, "byCounts.days === 7 && byCounts.told?.complete")
    assert page.evaluate("byCounts.told.periods.reduce((sum, each) => sum + (each.failed ?? 0), 0)") == FAILED
    counted = "byCounts.told.periods.reduce((sum, each) => sum + (each.succeeded ?? 0), 0)"
    assert 0 <= page.evaluate(counted) - (MANY - FAILED) <= 600, "and those of today"
    for _ in range(FAILED):
        before = page.evaluate("pointer.chosen ?? ''")
        press(page, "Failure before")
        comes(page, f"pointer.chosen !== {before!r} && $('details').textContent.includes('ValueError: no luck')")
    press(page, "Failure before")
    comes(page, "$('remark').textContent.includes('No earlier failure is kept.')")
    page.goto(f"http://127.0.0.1:{endless.port}/leader/live#job=tick")
    comes(page, "place.job === 'tick' && $('job-runs').tBodies[0].rows.length >= 10")
    assert max(sizes) < 150_000, "no answer grows with the history"


def test_from_failure_to_failure(old: Pool, new_page: NewPage) -> None:
    page = new_page(old)
    chosen = "pointer.marks.find((mark) => mark.key === pointer.chosen)?.time"
    for at in reversed(FAILURES):
        press(page, "Failure before")
        comes(page, f"Math.abs({chosen} - {at.timestamp() * 1000}) < 1")
        comes(page, "$('details').textContent.includes('ValueError: no luck')")
        comes(page, "[...$('details').querySelectorAll('a')].some((link) => link.textContent === 'Open this run')")
    press(page, "Failure before")
    comes(page, "$('remark').textContent.includes('No earlier failure is kept.')")
    for at in FAILURES[1:]:
        press(page, "Failure after")
        comes(page, f"Math.abs({chosen} - {at.timestamp() * 1000}) < 1")
    press(page, "Failure after")
    comes(page, "$('remark').textContent.includes('No later failure is kept.')")


def test_a_moment_can_be_given(old: Pool, new_page: NewPage) -> None:
    page = new_page(old, timezone_id="Asia/Kolkata")
    at = FAILURES[1].replace(microsecond=0)
    local = at + timedelta(hours=5.5)
    page.get_by_label("Go to a moment").fill(local.strftime("%Y-%m-%dT%H:%M:%S"))
    comes(page, f"stretch().from <= {at.timestamp() * 1000} && stretch().to >= {at.timestamp() * 1000}")
    comes(page, "state.past !== null && document.querySelector('#picture .run.failed') !== null")
    press(page, "Now")
    comes(page, "state.until === null")


def test_what_is_coming(old: Pool, new_page: NewPage) -> None:
    """A job that is due each second takes three lines, and leaves room for the one at noon."""
    page = new_page(old)
    page.get_by_text("Coming: the next 24 hours").click()
    comes(page, "$('coming-table').tBodies[0].rows.length >= 4")
    jobs = page.locator("#coming-table tbody td").all_inner_texts()
    assert (jobs.count("tick"), jobs.count("noon")) == (3, 1)
    page.locator("#coming-table").get_by_role("link", name="noon").click()
    comes(page, "place.job === 'noon'")


@pytest.mark.parametrize("appearance", APPEARANCES, ids=str)
def test_axe_finds_nothing(old: Pool, new_page: NewPage, appearance: dict[str, Any]) -> None:
    page = new_page(old, **appearance)
    press(page, "24 h")
    page.get_by_text("Coming: the next 24 hours").click()
    comes(page, "byCounts.told?.complete && $('coming-table').tBodies[0].rows.length > 0")
    check_with_axe(page)


def test_a_question_without_an_answer_says_nothing_of_failures(old: Pool, new_page: NewPage) -> None:
    page = new_page(old)
    page.route("**/leader/runs?outcome=*", lambda route: route.abort())
    press(page, "Failure before")
    comes(page, "$('remark').textContent.startsWith('No answer: ')")
    assert page.evaluate("state.until === null"), "it stays where it was"
