"""A real browser, and pools for it to look at."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.pool import TOKEN, Pool
from tests.support.tools import skip_missing
from tests.support.waiting import LIMIT, until

BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")

HARMLESS = (
    "net::ERR_CONNECTION_",
    "net::ERR_EMPTY_RESPONSE",
    "net::ERR_SOCKET_NOT_CONNECTED",
    "net::ERR_FAILED",
    "status of ",
)
"""Messages of a browser when a worker dies during a request, or a request is refused, as in the tests."""


PICTURE = "document.querySelector('#picture [data-term]') !== null"
"""There is a term in the picture."""


def comes(page: Any, expression: str, arg: Any = None, *, timeout: float = LIMIT) -> None:
    """Wait until a JavaScript expression is true in the page.

    Playwright's own ``wait_for_function`` evaluates text within the page, which the page's policy forbids.
    """
    until(lambda: page.evaluate(expression, arg) or page.wait_for_timeout(20), timeout, what=expression)


NewPage = Callable[..., Any]


def shown(page: Any, what: str) -> str:
    """Text of an element, as a reader sees it."""
    return str(page.locator(what).inner_text())


def alter(page: Any, pattern: str, change: Callable[[Any], Any]) -> None:
    """Change the pool's answers to requests for ``pattern``; those that the page has given up are left alone."""
    from playwright.sync_api import Error

    def answer(route: Any) -> None:
        with suppress(Error):
            url = re.sub(r"known=\d+", "known=0", route.request.url)  # the jobs are not to be left out
            route.fulfill(json=change(route.fetch(url=url).json()))

    page.route(pattern, answer)


def unlock(page: Any, token: str = TOKEN) -> None:
    """Enter the admin token."""
    page.get_by_label("Admin token").fill(token)
    page.keyboard.press("Enter")


def runs_of(pool: Pool, job: str) -> list[dict[str, Any]]:
    """The latest runs of a job, latest first."""
    answer = pool.get(f"/leader/runs?job={job}")
    return list(answer.json()["runs"]) if answer is not None else []


APPEARANCES: list[dict[str, Any]] = [
    {},
    {"color_scheme": "dark"},
    {"forced_colors": "active"},
    {"width": 320, "height": 640},
    {"width": 640, "height": 430, "device_scale_factor": 2},  # as at 200 % zoom
]


@contextmanager
def serve_shop(directory: Path, jobs: str) -> Iterator[Pool]:
    """A pool with a job that fails after a second attempt, and has done so."""
    pool = Pool(directory, jobs=f"charge_cards,{jobs}", workers=2)
    try:
        pool.start()
        until(lambda: [run for run in runs_of(pool, "charge_cards") if run["ended_at"]], what="a failure")
        yield pool
    finally:
        pool.reap()


def check_with_axe(page: Any) -> None:
    """Fail if axe finds a violation, or if something makes the page wider than its window."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    assert [(each["id"], each["impact"], each["nodes"][0]["html"]) for each in found] == []
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


@pytest.fixture(scope="package")
def chromium() -> Iterator[tuple[Any, asyncio.AbstractEventLoop]]:
    """Chromium, and the event loop of Playwright, which runs as long as Chromium does."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        skip_missing(
            "the live page is tried in a browser by playwright, which is not installed: pip install playwright"
        )
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        skip_missing("the live page is tried in Chromium, which is not on this machine: apt-get install chromium")
    arguments = ["--disable-background-networking", *(["--no-sandbox"] if os.getuid() == 0 else [])]
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=arguments)
        loop = asyncio.get_running_loop()
        asyncio._set_running_loop(None)
        yield found, loop
        asyncio._set_running_loop(loop)
        found.close()


@pytest.fixture
def browser(chromium: tuple[Any, asyncio.AbstractEventLoop]) -> Iterator[Any]:
    """Chromium, for one test: meanwhile no event loop can be started beside Playwright's, in other tests it can."""
    found, loop = chromium
    asyncio._set_running_loop(loop)
    yield found
    asyncio._set_running_loop(None)


@pytest.fixture
def new_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens the live page of a pool; afterwards the browser must have had nothing to complain of."""
    complaints: list[str] = []

    def told(message: Any) -> None:
        if message.type in {"error", "warning"} and not any(known in message.text for known in HARMLESS):
            complaints.append(message.text)

    def open_page(pool: Pool, place: str = "", *, width: int = 1280, height: int = 860, **options: Any) -> Any:
        page = browser.new_context(viewport={"width": width, "height": height}, **options).new_page()
        page.on("console", told)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"http://127.0.0.1:{pool.port}/leader/live{place}")
        comes(page, "state.pool !== null" if place.startswith("#job=") else PICTURE)
        return page

    yield open_page
    for context in browser.contexts:
        for page in context.pages:
            page.unroute_all(behavior="ignoreErrors")  # a test may have answered in the pool's place
        context.close()
    assert complaints == []


UNFENCED = {"ELECTION_FENCE_AFTER": "0"}
"""A leader that a test stops stays the leader for as long as the browser needs."""

JOBS = "report,refresh_prices,sync_inventory,send_invoices"
"""Jobs that run, fail, take long and are skipped."""


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    """A pool for one test alone, started."""
    pool = Pool(tmp_path / "served", jobs=JOBS, environment=UNFENCED)
    try:
        yield pool.start()
    finally:
        pool.reap()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """A pool for the tests that leave it as it is, with a job that means harm; it has run something by now."""
    pool = Pool(tmp_path_factory.mktemp("whole"), jobs=f"{JOBS},hostile")
    try:
        pool.start()
        until(lambda: len(_runs(pool)) > 10, what="some runs")
        yield pool
    finally:
        pool.reap()


def _runs(pool: Pool) -> list[dict[str, Any]]:
    answer = pool.get("/leader/runs")
    return list(answer.json()["runs"]) if answer is not None else []
