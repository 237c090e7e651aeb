"""Pictures of the page in the states that an operator meets. ``ELECTION_PICTURES=1`` writes them into docs/images."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from election.schedule.model import Outcome
from tests.browser.conftest import UNFENCED, NewPage, alter, comes, runs_of, shown
from tests.support.past import write_past
from tests.support.pool import ROOT, Pool
from tests.support.waiting import until

pytestmark = pytest.mark.extended

KEEP = os.environ.get("ELECTION_PICTURES") == "1"
MAX_BYTES = 120_000

COUNTRIES = ("at", "be", "ch", "de", "dk", "es", "fi", "fr", "ie", "it", "nl", "no", "pl", "pt", "se")
FUNCTIONS = {
    "export_orders": ("takes_a_while", 5),
    "sync_stock": ("nothing", 3),
    "send_reminders": ("fails_at_times", 11),
    "update_prices": ("nothing", 7),
}
"""Functions of ``tests.support.jobs``, and how many seconds lie between two runs."""


def keep_picture(page: Any, name: str, directory: Path, *, is_full: bool = False) -> None:
    """Write a picture of the page as ``page-NAME.png``, in few colours."""
    from PIL import Image

    page.evaluate("document.getElementById('pool').hidden = true")  # a directory of pytest's
    page.evaluate("scrollTo(0, 0); document.activeElement.blur()")
    path = (ROOT / "docs/images" if KEEP else directory) / f"page-{name}.png"
    page.screenshot(path=path, full_page=is_full)
    Image.open(path).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE).save(path, optimize=True)
    assert 5_000 < path.stat().st_size < MAX_BYTES


def without_paths(route: Any) -> None:
    """Answer with a run whose traceback does not name a directory of this machine."""
    route.fulfill(
        body=route.fetch().text().replace(f"{ROOT}/tests/support", "/srv/shop"), content_type="application/json"
    )


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Pool]:
    pool = Pool(tmp_path / "shop", jobs="report,refresh_prices,sync_inventory,charge_cards,noon", environment=UNFENCED)
    try:
        yield pool.start()
    finally:
        pool.reap()


@pytest.mark.timeout(240)
def test_pictures_of_a_failing_job(shop: Pool, new_page: NewPage, tmp_path: Path) -> None:
    """In light and dark, and on a phone."""
    until(lambda: len(runs_of(shop, "charge_cards")) > (16 if KEEP else 2), what="some failures", timeout=90)
    options: dict[str, dict[str, Any]] = {
        "job": {},
        "job-dark": {"color_scheme": "dark"},
        "job-phone": {"width": 390, "height": 844, "has_touch": True, "is_mobile": True},
    }
    for name, option in options.items():
        page = new_page(shop, "#job=charge_cards", **option)
        page.route("**/leader/runs/*", without_paths)
        page.reload()
        comes(page, "$('run-log').textContent.includes('Traceback')")
        comes(page, "document.querySelectorAll('#job-next li').length === 10")
        keep_picture(page, name, tmp_path)
    page = new_page(shop, color_scheme="dark")
    comes(page, "grid.cells.size === 5")
    keep_picture(page, "dark", tmp_path)
    page = new_page(shop, width=390, height=844, has_touch=True, is_mobile=True)
    comes(page, "grid.rows.size === 5")
    keep_picture(page, "phone", tmp_path)


@pytest.mark.timeout(240)
def test_a_picture_of_an_idle_pool(tmp_path: Path, new_page: NewPage) -> None:
    pool = Pool(tmp_path / "idle", jobs="noon")
    try:
        page = new_page(pool.start())
        comes(page, "document.querySelector('#attention').className === 'attention fine'")
        keep_picture(page, "idle", tmp_path)
    finally:
        pool.reap()


def a_day(now: datetime) -> list[tuple[datetime, Outcome]]:
    """Runs every four minutes by night and every two by day, with an hour in which many failed."""
    runs = []
    for minute in range(24 * 60, 0, -2):
        at = now - timedelta(minutes=minute, seconds=7)
        if 7 <= at.hour < 19 or minute % 4 == 0:
            is_bad = minute % 6 == 0 if 400 <= minute < 470 else minute % 234 == 0
            runs.append((at, Outcome.FAILED if is_bad else Outcome.SUCCEEDED))
    return runs


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Pool]:
    """A pool with a day's history, written before Playwright's own loop runs."""
    now = datetime.now(UTC)
    skips = [now - timedelta(minutes=800 + 3 * each) for each in range(9)]
    pool = Pool(tmp_path / "day", jobs="report,noon")
    asyncio.run(write_past(tmp_path / "day" / "pool", "report", now - timedelta(days=1), a_day(now), skips))
    try:
        yield pool.start()
    finally:
        pool.reap()


@pytest.mark.timeout(240)
def test_a_picture_of_a_day(old: Pool, new_page: NewPage, tmp_path: Path) -> None:
    page = new_page(old, height=620)
    page.get_by_role("button", name="24 h").click()
    comes(page, "byCounts.told?.complete && document.querySelectorAll('rect.bar.failed').length > 2")
    page.locator("#timeline").focus()
    for key in ("End", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
    keep_picture(page, "day", tmp_path)


@pytest.mark.timeout(240)
def test_a_picture_of_sixty_jobs(shop: Pool, new_page: NewPage, tmp_path: Path) -> None:
    for country in COUNTRIES:
        for name, (function, seconds) in FUNCTIONS.items():
            query = {"func": f"tests.support.jobs:{function}", "seconds": seconds}
            answer = shop.request("PUT", f"/jobs/{name}.{country}", params=query)
            assert answer.status_code == 200, answer.text
    until(lambda: shop.leader()["jobs_total"] >= 65, what="all jobs are known")
    seen = "send_reminders.se"
    until(lambda: len(runs_of(shop, seen)) > (9 if KEEP else 1), what="some runs", timeout=150)
    page = new_page(shop, width=1280, height=1400)
    comes(page, "grid.rows.size === 65 && grid.cells.size > 5 && !grid.asking")
    keep_picture(page, "jobs", tmp_path)


@pytest.mark.timeout(240)
def test_pictures_of_what_is_wrong(shop: Pool, new_page: NewPage, tmp_path: Path) -> None:
    """A leader that hangs, a pool without a leader, and one that does not answer."""
    until(lambda: len(runs_of(shop, "charge_cards")) > (8 if KEEP else 1), what="some failures", timeout=90)
    page = new_page(shop)
    comes(page, "grid.cells.size === 5")
    leader = shop.leader()["leader"]["pid"]
    os.kill(leader, signal.SIGSTOP)
    comes(
        page,
        "words => $('who').className === 'silent' && $('who').innerText === words",
        f"Worker {leader} hangs, in term 1",
    )
    keep_picture(page, "hung", tmp_path)
    alter(page, "**/live/data*", without_leader)
    comes(page, "$('who').className === 'electing'")
    keep_picture(page, "electing", tmp_path)
    page.unroute_all(behavior="ignoreErrors")
    os.kill(leader, signal.SIGCONT)
    shop.settled()
    shop.stop()
    comes(page, "$('who').className === 'stale'")
    keep_picture(page, "stale", tmp_path)
    assert shown(page, "#who").startswith("No worker has answered for ")


def without_leader(document: dict[str, Any]) -> dict[str, Any]:
    """The document while an election is under way."""
    pool = document["pool"]
    pool |= {"leader": None, "state": "electing"}
    for worker in pool["workers"]:
        worker["role"] = "follower"
    return document
