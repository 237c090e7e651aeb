"""The list of the jobs in a real browser: latest runs, search, filters, order, and a thousand of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.browser.conftest import APPEARANCES, NewPage, alter, check_with_axe, comes, runs_of, serve_shop, shown
from tests.support.pool import Pool
from tests.support.waiting import until

pytestmark = pytest.mark.extended

NAMES = "[...document.querySelectorAll('#jobs-table a.name')].map((name) => name.textContent)"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with serve_shop(tmp_path_factory.mktemp("shop"), "report,refresh_prices,someday") as pool:
        yield pool


def test_failures_come_first(shop: Pool, new_page: NewPage) -> None:
    page = new_page(shop)
    comes(page, f"{NAMES}.join() === 'charge_cards,report,refresh_prices,someday'")
    page.get_by_label("Order").select_option("name")
    comes(page, f"{NAMES}.join() === 'charge_cards,refresh_prices,report,someday'")
    page.get_by_label("Order").select_option("next")
    comes(page, f"{NAMES}.at(-1) === 'someday'")


def test_rows_stand_while_somebody_points_at_them(shop: Pool, new_page: NewPage) -> None:
    """Nobody clicks on a row that has just moved away."""
    page = new_page(shop, "#sort=next")
    comes(page, f"{NAMES}.length === 4")
    page.locator("#jobs-table a.name", has_text="someday").focus()
    names = page.evaluate(NAMES)
    assert shop.run_command("pause", "report").returncode == 0
    comes(page, "document.querySelector('[data-job=report] td').textContent === 'paused'")
    assert page.evaluate(NAMES) == names
    page.evaluate("document.activeElement.blur()")
    comes(page, f"{NAMES}.indexOf('report') > 1")
    assert shop.run_command("resume", "report").returncode == 0


def test_the_cells_are_the_latest_runs(shop: Pool, new_page: NewPage) -> None:
    """Also those that ended before the page was opened, and before the stretch of its picture."""
    until(lambda: len(runs_of(shop, "report")) > 30, what="more runs than cells", timeout=60)
    page = new_page(shop)
    comes(page, "cellsOf('report').length === CELLS")
    drawn = (
        "[...document.querySelectorAll('[data-job=report] .cell')]"
        ".reduce((sum, path) => sum + Number(path.dataset.count), 0)"
    )
    comes(page, f"{drawn} === CELLS")
    seqs = page.evaluate("cellsOf('report').map((run) => run.seq)")
    known = [run["seq"] for run in runs_of(shop, "report")][::-1]
    assert [seq for seq in known if seqs[0] <= seq <= seqs[-1]] == seqs, "none is left out"
    latest = seqs[-1]
    comes(page, "(latest) => cellsOf('report').at(-1).seq > latest", latest)
    assert page.locator("[data-job=charge_cards] .cell.failed").count() == 1
    label = page.locator("[data-job=charge_cards] .strip svg").get_attribute("aria-label")
    assert label.startswith("the latest ")
    assert " failed" in label


def test_a_click_on_a_cell_opens_its_run(shop: Pool, new_page: NewPage) -> None:
    page = new_page(shop)
    strip = page.locator("[data-job=charge_cards] .strip svg")
    comes(page, "cellsOf('charge_cards').some((run) => run.outcome === 'failed')")

    def click() -> bool:
        """Click the latest cell; rows and cells move while runs end, so perhaps beside it."""
        if (box := strip.bounding_box()) is not None:
            page.mouse.click(box["x"] + box["width"] - 9, box["y"] + 10)
        return bool(page.evaluate("place.job === 'charge_cards'"))

    until(click, timeout=60)
    comes(page, "shownJob.run?.seq === Number(place.run)")


def test_search_and_filters_stand_in_the_address(shop: Pool, new_page: NewPage) -> None:
    page = new_page(shop)
    page.get_by_label("Search the jobs").fill("RE")
    comes(page, f"{NAMES}.sort().join() === 'refresh_prices,report'")
    assert page.evaluate("location.hash") == "#q=RE"
    assert shown(page, "#found") == "2 of 4 jobs"
    page.get_by_label("Search the jobs").fill("")
    page.get_by_label("Tag").select_option("billing")
    comes(page, f"{NAMES}.join() === 'charge_cards'")
    page.get_by_label("Outcome").select_option("never")
    comes(page, "$('no-jobs').textContent === 'No job fits.' && !$('no-jobs').hidden")
    page.get_by_label("Tag").select_option("")
    comes(page, f"{NAMES}.join() === 'someday'")
    page.reload()
    comes(page, f"{NAMES}.join() === 'someday' && $('outcome').value === 'never'")
    page.get_by_label("Outcome").select_option("attention")
    comes(page, f"{NAMES}.join() === 'charge_cards'")
    page.get_by_label("Outcome").select_option("succeeded")
    comes(page, f"{NAMES}.sort().join() === 'refresh_prices,report'")


def test_a_name_in_the_picture_and_a_mark_lead_to_the_job(shop: Pool, new_page: NewPage) -> None:
    page = new_page(shop)
    comes(page, "document.querySelector('[data-row=charge_cards]') !== null")
    x, y, width, height = page.evaluate(
        "(({x, y, width, height}) => [x, y, width, height])"
        "(document.querySelector('[data-row=charge_cards]').getBoundingClientRect())"  # at once: it is drawn anew
    )
    page.mouse.click(x + width / 2, y + height / 2)
    comes(page, "place.job === 'charge_cards'")
    page.go_back()
    comes(page, "!$('pool-view').hidden")
    page.locator("#timeline").focus()
    page.keyboard.press("End")
    page.get_by_role("link", name="Open this run").click()
    comes(page, "place.job !== '' && place.run !== ''")


def many(number: int, base: dict[str, Any]) -> list[dict[str, Any]]:
    """Jobs that are due in an hour."""
    due = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    return [{**base, "id": f"job-{each:04}", "name": f"job {each}", "next_run_time": due} for each in range(number)]


def serve_many(page: Any, pool: Pool, number: int) -> None:
    """Let the page see a pool with so many jobs, the first hundred in its document and the rest in the list."""
    base = pool.leader()["jobs"][0]
    jobs = many(number, base)
    asked: list[str] = []

    def with_jobs(document: Any) -> Any:
        document["pool"] |= {"jobs": jobs[:100], "jobs_total": number}
        return document

    def listed(route: Any) -> None:
        asked.append(route.request.url)
        found = jobs if "search=&" in route.request.url + "&" else [job for job in jobs if "0042" in job["id"]]
        route.fulfill(json={"jobs": [{**job, "last_run": None} for job in found], "next": None})

    def runs(route: Any) -> None:
        ids = [part[4:] for part in route.request.url.split("?")[1].split("&")]
        rows = [[seq, "succeeded" if seq % 7 else "failed", 1e12, 1e12 + seq] for seq in range(30)]
        route.fulfill(body=json.dumps(dict.fromkeys(ids, rows)), content_type="application/json")

    alter(page, "**/leader/live/data*", with_jobs)
    page.route("**/leader/jobs?*", listed)
    page.route("**/leader/live/runs?*", runs)


SCROLL = """() => new Promise((done) => {
  const html = document.documentElement;
  let frames = 0;
  function step() {
    frames += 1;
    scrollBy(0, 660);
    if (scrollY + innerHeight >= html.scrollHeight - 1 || frames > 600) done(frames);
    else requestAnimationFrame(step);
  }
  requestAnimationFrame(step);
})"""


TOLD = """(changes) => {
  const [plain, told] = [tellJob, []];
  tellJob = (...given) => { told.push(given[1].id); return plain(...given); };
  for (let each = 0; each < changes; each++) changed();
  tellJob = plain;
  return told.length / changes;
}"""


class MainThread:
    """Processor time of a page's main thread, so that it does not tell how busy the machine was."""

    def __init__(self, page: Any) -> None:
        self._session = page.context.new_cdp_session(page)
        self._session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent(self) -> float:
        """Return milliseconds so far."""
        metrics = self._session.send("Performance.getMetrics")["metrics"]
        return 1000 * next(each["value"] for each in metrics if each["name"] == "TaskDuration")


def test_a_thousand_jobs_are_searched_and_scrolled(shop: Pool, new_page: NewPage) -> None:
    """All have a row; only those near the window are asked for and drawn, so it costs little more than with 150."""
    frame, change, told = {}, {}, {}
    for number in (150, 1000):
        page = new_page(shop)
        serve_many(page, shop, number)
        comes(page, f"grid.rows.size === {number}")
        assert shown(page, "#found") == f"{number:,} jobs"
        page.locator("#jobs").scroll_into_view_if_needed()
        comes(page, "grid.cells.size > 0 && !grid.asking")
        assert page.evaluate("grid.cells.size") < 100, "the rest is asked for when it is scrolled to"
        thread = MainThread(page)
        began = thread.spent()
        frames = page.evaluate(SCROLL)
        scrolled = thread.spent()
        told[number] = page.evaluate(TOLD, 20)
        frame[number], change[number] = (scrolled - began) / frames, (thread.spent() - scrolled) / 20
        print(f"\n{number} jobs: {frames} frames; {frame[number]:.1f} ms of processor time each")
        print(f"a change: {change[number]:.1f} ms, {told[number]:.1f} rows")
        if number == 1000:
            page.get_by_label("Search the jobs").fill("0042")
            comes(page, "grid.order.join() === 'job-0042'")
        page.context.close()
    assert told[1000] < told[150] + 1000 / 10, "a slice of those that cannot be seen"
    assert frame[1000] < 4 * frame[150] + 10
    assert change[1000] < 5 * change[150] + 10


def test_jobs_that_the_document_leaves_out_need_attention_too(shop: Pool, new_page: NewPage) -> None:
    """A broken job among them is named; while not all are listed, that is said, also if all is well."""
    page = new_page(shop)
    jobs = many(150, shop.leader()["jobs"][0])
    seen = {"total": 150, "broken": "its function is gone"}

    def with_jobs(document: Any) -> Any:
        document["pool"] |= {"jobs": jobs[:100], "jobs_total": seen["total"]}
        return document

    def listed(route: Any) -> None:
        others = [{**job, "last_run": None} for job in jobs]
        others[120]["broken"] = seen["broken"]
        route.fulfill(json={"jobs": others, "next": None})

    alter(page, "**/leader/live/data*", with_jobs)
    page.route("**/leader/jobs?*", listed)
    comes(page, "$('attention').textContent === '1 broken: job 120'")
    seen["total"] = 5000
    comes(page, "$('attention').textContent === '1 broken: job 120among the 150 of 5,000 jobs listed here'")
    seen["broken"] = None
    page.evaluate("grid.othersAt = -Infinity")
    comes(page, "$('attention').className === 'attention fine'")
    assert shown(page, "#attention") == "among the 150 of 5,000 jobs listed here"


@pytest.mark.parametrize("options", APPEARANCES, ids=str)
def test_axe_finds_nothing_in_a_long_list(shop: Pool, new_page: NewPage, options: dict[str, Any]) -> None:
    page = new_page(shop, bypass_csp=True, **options)
    serve_many(page, shop, 150)
    comes(page, "grid.rows.size === 150")
    page.locator("#jobs").scroll_into_view_if_needed()
    comes(page, "grid.cells.size > 0")
    check_with_axe(page)
