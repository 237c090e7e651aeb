"""The page of one job in a real browser: from a failure to its traceback, and what is there besides."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.browser.conftest import (
    APPEARANCES,
    NewPage,
    alter,
    check_with_axe,
    comes,
    runs_of,
    serve_shop,
    shown,
    unlock,
)
from tests.support.jobs import HOSTILE
from tests.support.pool import Pool
from tests.support.waiting import until

pytestmark = pytest.mark.extended


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """Beside the job that fails, one that is skipped at times, and one that means harm."""
    with serve_shop(tmp_path_factory.mktemp("shop"), "sync_inventory,report,hostile") as pool:
        yield pool


def test_from_a_failure_to_its_traceback_it_is_one_click(shop: Pool, new_page: NewPage) -> None:
    page = new_page(shop)
    page.locator("#attention").get_by_role("link", name="charge_cards").click()
    comes(page, "$('run-log').textContent.includes('Traceback (most recent call last)')")
    log = shown(page, "#run-log")
    assert "TimeoutError: payments.example did not answer within 2 s" in log
    assert "WARNING shop.payments: charging 50 cards, attempt 2" in log
    assert "failed in " in shown(page, "#run-facts")
    assert "Attempt 1, in term 1, failed at " in shown(page, "#run-attempts")
    assert page.locator("#run-log").evaluate("log => log.getBoundingClientRect().top < innerHeight"), (
        "without scrolling"
    )


LATER = {"due": -5, "started_at": 123_995, "ended_at": 130_000}
"""Milliseconds from its claim at which such a run was due, began and ended."""


def begun_late(run: dict[str, Any]) -> dict[str, Any]:
    """A run of the live data that was claimed at once, and waited for a thread for more than two minutes."""
    return {**run, "due": run["at"] - 5, "started": run["at"] + 123_995, "end": run["at"] + 130_000}


def begun_late_in_the_history(run: dict[str, Any]) -> dict[str, Any]:
    """The same of the documents for programs."""
    at = datetime.fromisoformat(run["claimed_at"])
    later = {name: (at + timedelta(milliseconds=ms)).isoformat() for name, ms in LATER.items()}
    return {**run, **later} if run["ended_at"] else run


def test_lateness_counts_to_the_start_of_the_code(shop: Pool, new_page: NewPage) -> None:
    """As in the log, ``status`` and the metrics: in the list, the picture's words, the chart and the tables."""

    def late(told: dict[str, Any]) -> dict[str, Any]:
        history = told["history"]
        history["runs"] = [begun_late(run) if run["end"] else run for run in history["runs"]]
        history["last"] = {job: begun_late(run) for job, run in history["last"].items() if run["end"]}
        return told

    page = new_page(shop)
    assert all(run["started"] >= run["at"] for run in page.evaluate("[...state.live.runs.values()]") if run["end"])
    alter(page, "**/leader/live/data*", late)
    alter(page, "**/leader/runs?*", lambda told: {**told, "runs": [*map(begun_late_in_the_history, told["runs"])]})
    alter(page, "**/leader/runs/*", begun_late_in_the_history)
    page.evaluate("state.live.upTo = null")
    page.locator("#behind summary").press("Enter")  # no mouse: rows above may move it
    comes(page, "document.querySelector('[data-job=charge_cards] .number').textContent === '2 min 4 s'")
    comes(page, "[...$('runs-table').rows].some((row) => row.cells[5]?.textContent === '2 min 4 s')")
    assert "2 min 4 s late" in page.evaluate("sayRun([...state.live.runs.values()].find((run) => run.end))")
    page.locator("#jobs-table a.name", has_text="charge_cards").click()
    comes(page, "$('run-facts').textContent.includes(', 2 min 4 s late')")
    assert "The latest to begin was 2 min 4 s late." in shown(page, "#history-words")
    assert page.locator("#job-runs td", has_text="2 min 4 s").count() > 0


def test_why_leads_to_the_run(shop: Pool, new_page: NewPage) -> None:
    page = new_page(shop)
    page.get_by_role("link", name="Why did charge_cards fail?").click()
    comes(page, "place.run !== '' && $('run-log').textContent.includes('Traceback')")
    assert shown(page, "#run-title") == f"Run {page.evaluate('place.run')}"


def test_it_says_what_the_job_is_and_what_comes_next(shop: Pool, new_page: NewPage) -> None:
    page = new_page(shop, "#job=charge_cards")
    comes(page, "document.querySelectorAll('#job-next li').length === 10")
    facts = shown(page, "#job-facts")
    assert "Charge the cards whose payment is due." in facts
    assert "#billing" in facts
    assert "by the clocks of Europe/Berlin" in facts
    assert "shown with the admin token" in facts
    unlock(page)
    comes(page, "$('job-facts').textContent.includes('batch=50, api_token=(hidden)')")
    assert all("in Europe/Berlin" in line for line in page.locator("#job-next li").all_inner_texts())
    comes(page, "document.querySelectorAll('#history [data-run]').length === shownJob.runs.size")
    seqs = {run["seq"] for run in runs_of(shop, "charge_cards")}
    assert {int(run) for run in page.evaluate("[...shownJob.runs.keys()]")} <= seqs
    assert page.locator("#history .bar.failed").count() > 0
    label = page.locator("#history").get_attribute("aria-label")
    assert label == shown(page, "#history-words")
    assert " failed" in label


def test_runs_are_followed_and_chosen(shop: Pool, new_page: NewPage) -> None:
    """A run that ends appears by itself; what is being read stays."""
    page = new_page(shop, "#job=charge_cards")
    comes(page, "shownJob.run !== null")
    read = shown(page, "#run-title")
    count = page.locator("#job-runs tbody tr").count()
    comes(page, "(count) => document.querySelectorAll('#job-runs tbody tr').length >= count + 2", count)
    assert shown(page, "#run-title") == read
    first = page.locator("#job-runs tbody tr").last.locator("a")
    first.click()
    comes(page, "place.run !== '' && shownJob.run?.seq === Number(place.run)")
    assert page.locator("#job-runs tr.chosen a[aria-current=true]").count() == 1
    page.locator("#history [data-run]").nth(1).click()
    comes(page, "(run) => place.run !== run && shownJob.run?.seq === Number(place.run)", read)


def test_skips_have_their_reason(shop: Pool, new_page: NewPage) -> None:
    until(lambda: shop.request("GET", "/leader/skips?job=sync_inventory").json()["skips"], what="a skip", timeout=60)
    page = new_page(shop, "#job=sync_inventory")
    comes(page, "$('job-skips').textContent.includes('overlap, the run before was still going')")


def test_back_and_reload_keep_the_place(shop: Pool, new_page: NewPage) -> None:
    page = new_page(shop, "#q=car")
    page.locator("#jobs-table a.name", has_text="charge_cards").click()
    comes(page, "shownJob.run !== null && $('pool-view').hidden")
    page.locator("#job-runs tbody tr").last.locator("a").click()
    comes(page, "place.run !== ''")
    chosen = page.evaluate("place.run")
    page.reload()
    comes(page, "(run) => place.job === 'charge_cards' && $('run-title').textContent === `Run ${run}`", chosen)
    page.go_back()
    comes(page, "place.run === '' && place.job === 'charge_cards'")
    page.go_back()
    comes(page, "place.job === '' && $('job').hidden && !$('pool-view').hidden")
    assert page.locator("#q").input_value() == "car"
    assert page.evaluate("document.activeElement.textContent") in {"charge_cards", ""}
    page.go_forward()
    comes(page, "place.job === 'charge_cards' && !$('job').hidden")


def test_an_unknown_job_and_run_are_told(shop: Pool, new_page: NewPage) -> None:
    page = new_page(shop, "#job=nobody%20%F0%9F%A6%89")
    comes(page, "$('job-missing').textContent.startsWith('There is no job “nobody 🦉” in this pool.')")
    assert page.locator("#job-facts").is_hidden()
    page.evaluate("location.hash = '#job=report&run=123456789)'")  # a bracket after the link, as in a letter
    comes(page, "$('run-facts').textContent.includes('there is no run 123456789')")
    page.evaluate("(run) => location.hash = `#job=report&run=${run}`", runs_of(shop, "charge_cards")[0]["seq"])
    comes(page, "$('run-facts').textContent === 'It is a run of another job, charge_cards.'")


def test_harm_stays_text(shop: Pool, new_page: NewPage) -> None:
    """Markup in id and error, and a character that would turn the text around it."""
    page = new_page(shop, f"#job={quote(HOSTILE)}")
    comes(page, "$('run-log').textContent.includes('ValueError: <img src=x')")
    assert shown(page, "#job-title") == HOSTILE
    assert page.locator("img, body script:not(:last-of-type)").count() == 0
    assert "no answer" not in page.title() and page.title().startswith(str(shop.leader()["leader"]["pid"]))
    page.evaluate("location.hash = '#job=%E2%80%AEdesrever'")
    comes(page, "$('job-title').textContent === '\\\\u202edesrever'")


def test_a_job_is_controlled_on_its_page(shop: Pool, new_page: NewPage) -> None:
    page = new_page(shop, "#job=report")
    assert page.locator("#job-control").is_hidden()
    unlock(page)
    page.get_by_role("button", name="Pause report").press("Enter")
    comes(page, "$('said').textContent === 'report is paused.'")
    page.get_by_role("button", name="Resume report").press("Enter")
    comes(page, "$('said').textContent === 'report is resumed.'")
    page.get_by_role("button", name="Run report now").click()
    comes(page, "/^report succeeded in /.test($('said').textContent)")
    assert shown(page, "#job-control .answer") == shown(page, "#said")
    comes(page, "$('job-runs').textContent.includes('by hand')")
    for change in ("pause", "resume", "run"):
        comes(page, f"$('job-changes').textContent.includes(': {change} by token')")


def test_a_job_is_run_with_other_arguments(shop: Pool, new_page: NewPage) -> None:
    """They are asked for as JSON; what cannot be said with them is told beside the button."""
    page = new_page(shop, "#job=charge_cards")
    unlock(page)
    answers = iter(["{batch: 7", "[7]", '{"size": 7}', '{"batch": 12345678901234567890}'])
    page.on("dialog", lambda dialog: dialog.accept(next(answers)))
    wrong = ["These arguments are no JSON", "valid dictionary", "unexpected keyword argument 'size'"]
    for words in wrong:
        page.get_by_role("button", name="Run with …").click()
        comes(page, "words => $('said').textContent.includes(words)", words)
    page.get_by_role("button", name="Run with …").click()
    comes(page, "/^charge_cards failed in /.test($('said').textContent)")
    by_hand = next(run for run in runs_of(shop, "charge_cards") if run["request"] > 0)
    page.evaluate("run => { location.hash = `#job=charge_cards&run=${run}` }", by_hand["seq"])
    comes(page, "$('run-log').textContent.includes('charging 12345678901234567890 cards')")


def test_a_ledger_that_does_not_answer_is_told(shop: Pool, new_page: NewPage) -> None:
    page = new_page(shop)
    page.route("**/leader/skips*", lambda route: route.fulfill(status=503, json={"detail": "the disk is full"}))
    page.evaluate("location.hash = '#job=report'")
    comes(page, "$('job-problem').textContent === 'Its history cannot be read: the disk is full. Trying again.'")
    page.unroute_all(behavior="ignoreErrors")
    comes(page, "$('job-problem').hidden && document.querySelectorAll('#job-runs tbody tr').length > 0")


def test_older_runs_come_when_asked_for(shop: Pool, new_page: NewPage) -> None:
    until(lambda: len(runs_of(shop, quote(HOSTILE))) > 15, what="some runs", timeout=60)
    assert shop.run_command("pause", HOSTILE).returncode == 0  # of new runs, five at a time, a busy page may miss some
    try:
        until(lambda: stands_still(shop, HOSTILE), what="it is paused, and no run goes on")
        page = new_page(shop)
        page.route("**/leader/runs?*", ask_for_five)
        page.evaluate("(job) => location.hash = `#job=${encodeURIComponent(job)}`", HOSTILE)
        page.get_by_role("button", name="Older runs").click()
        comes(page, "shownJob.runs.size >= 10")
        seqs = page.evaluate("[...shownJob.runs.keys()].sort((one, other) => one - other)")
        known = [run["seq"] for run in runs_of(shop, quote(HOSTILE))][::-1]
        assert [seq for seq in known if seqs[0] <= seq <= seqs[-1]] == seqs, "none is left out"
    finally:
        assert shop.run_command("resume", HOSTILE).returncode == 0


def ask_for_five(route: Any) -> None:
    route.continue_(url=route.request.url.replace("limit=50", "limit=5"))


def stands_still(shop: Pool, job_id: str) -> bool:
    answer = shop.get("/leader/jobs?limit=1000")
    paused = answer is not None and {job["id"] for job in answer.json()["jobs"] if job["paused"]}
    return bool(paused) and job_id in paused and all(run["ended_at"] for run in runs_of(shop, quote(job_id)))


@pytest.mark.parametrize("options", APPEARANCES, ids=str)
def test_axe_finds_nothing(shop: Pool, new_page: NewPage, options: dict[str, Any]) -> None:
    page = new_page(shop, "#job=charge_cards", bypass_csp=True, **options)
    unlock(page)
    comes(page, "$('run-log').textContent.includes('Traceback') && !$('job-control').hidden")
    comes(page, "document.querySelectorAll('#job-next li').length === 10")
    check_with_axe(page)


def test_the_keyboard_reaches_everything(shop: Pool, new_page: NewPage) -> None:
    page = new_page(shop, "#job=charge_cards")
    comes(page, "shownJob.run !== null && document.querySelectorAll('#job-next li').length === 10")
    reached = set()
    for _ in range(20):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            "[document.activeElement.id || document.activeElement.tagName,"
            " getComputedStyle(document.activeElement).outlineStyle]"
        )
        reached.add(name)
        assert name == "BODY" or outline == "solid", name
    assert {"to-jobs", "token", "run-log", "A"} <= reached


def test_a_pool_that_is_gone_makes_the_page_stale(tmp_path: Path, new_page: NewPage) -> None:
    """P8: what stands there stays readable, and says of when it is."""
    pool = Pool(tmp_path / "gone", jobs="charge_cards", workers=2)
    try:
        pool.start()
        until(lambda: [run for run in runs_of(pool, "charge_cards") if run["ended_at"]], what="a failure")
        page = new_page(pool, "#job=charge_cards")
        comes(page, "$('run-log').textContent.includes('Traceback')")
        pool.stop()
        comes(page, "$('who').textContent.startsWith('No worker has answered for ')")
        assert "Traceback" in shown(page, "#run-log")
        comes(page, "/owed since|if somebody leads then/.test($('job-facts').textContent)")
        assert page.title() == "no answer · charge_cards · election"
    finally:
        pool.reap()
