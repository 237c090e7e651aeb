"""The live page in a real browser, on real pools: what it shows, what it lives through, and who can use it."""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import (
    APPEARANCES,
    JOBS,
    PICTURE,
    NewPage,
    alter,
    check_with_axe,
    comes,
    runs_of,
    shown,
    unlock,
)
from tests.support.jobs import HOSTILE
from tests.support.login import LoginServer
from tests.support.pool import AUTHORIZED, ROOT, Pool
from tests.support.waiting import until

pytestmark = pytest.mark.extended


def test_it_shows_who_leads_and_what_ran(whole: Pool, new_page: NewPage) -> None:
    """The header says it in words, each worker has a lane, the term its bar, and the runs their marks."""
    page = new_page(whole)
    found = whole.leader()
    assert shown(page, "#who") == f"Worker {found['leader']['pid']} leads, in term {found['leader']['term']}"
    assert "Its heartbeats arrive." in shown(page, "#how")
    assert page.locator("#picture .term").count() == 1
    comes(page, "Number(document.querySelector('[data-runs=succeeded]').dataset.count) > 2")
    comes(page, "document.querySelector('[data-runs=failed]') !== null")
    lanes = page.locator("#picture .pid").all_text_contents()
    assert sorted(map(int, lanes)) == sorted(worker["pid"] for worker in found["workers"])
    assert page.locator("[data-job=report] td").nth(1).inner_text().startswith(("succeeded", "running"))
    comes(page, "Number(document.querySelector('[data-job=report] .cell.succeeded')?.dataset.count) > 2")


def test_the_first_picture_comes_within_a_second(whole: Pool, new_page: NewPage) -> None:
    """From the request to a picture with a term in it: the best of five, since the machine has other work, and beside
    a page with a line of text, in case that is so slow as well.
    """
    took, trivial = [], []
    for _ in range(5):
        page = new_page(whole)
        took.append(page.evaluate("performance.now()"))
        assert shown(page, "#who").startswith("Worker")
        page.goto(f"http://127.0.0.1:{whole.port}/healthz")
        comes(page, "true")
        trivial.append(page.evaluate("performance.now()"))
        page.context.close()
    print(f"\nfirst picture after {min(took):.0f} ms, a trivial page after {min(trivial):.0f} ms")
    assert min(took) < max(1000, 4 * min(trivial)), (took, trivial)


@pytest.mark.parametrize("served_by", ["leader", "follower"])
def test_it_lives_through_the_death_of_the_leader_and_of_the_worker_that_served_it(
    pool: Pool, new_page: NewPage, served_by: str
) -> None:
    """P6, P8: both are killed with -9; the page soon shows the new term, and it is the same page."""
    for _ in range(50):
        page = new_page(pool)
        comes(page, "document.getElementById('link').textContent.includes('answered by')")
        leader, answered = page.evaluate("[state.pool.leader.pid, state.pool.answered_by.pid]")
        if (answered == leader) == (served_by == "leader"):
            break
        page.context.close()
    else:
        raise AssertionError(f"no {served_by} ever served the page")
    page.evaluate("window.same = true")
    began = time.monotonic()
    for pid in dict.fromkeys([answered, leader]):  # a follower that dies first takes nothing over in between
        os.kill(pid, signal.SIGKILL)
    comes(
        page,
        "([dead, term]) => document.querySelector(`[data-term='${term}']`) !== null"
        " && document.getElementById('who').textContent.includes(`in term ${term}`)"
        " && !dead.some((pid) => document.getElementById('who').textContent.includes(pid))",
        [[leader, answered], 2],
    )
    print(f"\nthe new term was shown {time.monotonic() - began:.2f} s after the kills")
    assert page.evaluate("window.same") is True
    page.wait_for_selector("[data-sign=died]", state="attached")
    page.wait_for_selector("[data-takeover='2']", state="attached")
    comes(page, "document.getElementById('announce').textContent.includes('has taken over')")
    words = shown(page, "#announce")
    assert f"from worker {leader}, which died" in words
    pool.settled()


def test_a_job_is_paused_by_its_button_and_stops(pool: Pool, new_page: NewPage) -> None:
    """The keyboard alone is enough: pause, run now, resume; without a token there are no buttons."""
    page = new_page(pool)
    assert page.get_by_role("button", name="Pause report").count() == 0
    unlock(page)
    page.get_by_role("button", name="Pause report").focus()
    page.keyboard.press("Enter")
    comes(page, "document.getElementById('said').textContent === 'report is paused.'")
    page.get_by_role("button", name="Resume report").wait_for()
    comes(page, "document.querySelector('[data-job=report] td').textContent === 'paused'")
    latest = until(lambda: runs_of(pool, "report"))[0]["seq"]
    others = len(runs_of(pool, "refresh_prices"))
    until(lambda: len(runs_of(pool, "refresh_prices")) >= others + 2, what="six seconds of another job")
    late = [run for run in runs_of(pool, "report") if run["seq"] > latest]
    assert len(late) <= 1, "one may have been on its way when the pause was written"
    page.get_by_role("button", name="Run report now").press("Enter")
    by_hand = until(lambda: [run for run in runs_of(pool, "report") if run["request"] > 0], what="a run by hand")[0]
    page.get_by_role("button", name="Resume report").press("Enter")
    until(lambda: runs_of(pool, "report")[0]["seq"] > by_hand["seq"], what="it runs again")
    page.get_by_role("button", name="Pause report").wait_for()


def test_what_goes_wrong_with_a_button_is_said_in_words(whole: Pool, new_page: NewPage) -> None:
    """A wrong token is told and forgotten; one in letters beyond ASCII can be sent."""
    page = new_page(whole)
    unlock(page, "wrong, ümlaut")
    comes(page, "document.getElementById('said').textContent.includes('the token is missing or wrong')")
    assert page.get_by_role("button", name="Pause report").count() == 0
    unlock(page)
    page.route("**/pause", lambda route: route.abort())
    page.get_by_role("button", name="Pause report").click()
    comes(page, "document.getElementById('said').textContent.includes('No answer for report')")
    page.route("**/run", lambda route: route.fulfill(status=503, json={"detail": "the disk is full"}))
    page.get_by_role("button", name="Run report now").click()
    comes(page, "document.getElementById('said').textContent.includes('the disk is full')")


@pytest.mark.parametrize("options", APPEARANCES, ids=str)
def test_axe_finds_nothing_serious(whole: Pool, new_page: NewPage, options: dict[str, Any]) -> None:
    """With the controls and the tables open; nothing makes the page wider than its window."""
    page = new_page(whole, bypass_csp=True, **options)  # axe puts markup into the page to measure with
    unlock(page)
    page.locator("#behind summary").press("Enter")  # no mouse: rows above may move it
    comes(page, "document.querySelectorAll('#runs-table tbody tr').length > 3")
    check_with_axe(page)


def test_what_means_harm_stays_text(whole: Pool, new_page: NewPage) -> None:
    """A job's id, and the error that it raises, are shown as they are, and nothing of them becomes markup."""
    page = new_page(whole)
    page.locator("#behind summary").press("Enter")  # no mouse: rows above may move it
    row = page.locator("#jobs-table tbody tr", has=page.locator(".name", has_text="onerror"))
    row.wait_for()
    assert row.locator(".name").inner_text() == HOSTILE
    comes(page, "document.getElementById('runs-table').textContent.includes('ValueError: <img src=x')")
    assert page.locator("img, body script:not(:last-of-type)").count() == 0
    assert "hurt" not in page.title()
    unlock(page)

    def runs_and_fails() -> bool:
        """Press the button; on a busy machine the request may be refused or skipped, and the page says so."""
        row.get_by_role("button", name="Run").click()
        comes(
            page,
            "/ failed in | was not run: |left as it is|No answer/.test(document.getElementById('said').textContent)",
        )
        return " failed in " in shown(page, "#said")

    until(runs_and_fails, what=lambda: shown(page, "#said"))


def test_without_a_mouse(whole: Pool, new_page: NewPage) -> None:
    """Keys go from mark to mark and say what each is; all that can be operated is reached, and shows that."""
    page = new_page(whole)
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            "[document.activeElement.id || document.activeElement.dataset.minutes || document.activeElement.tagName,"
            " getComputedStyle(document.activeElement).outlineStyle]"
        )
        reached.add(name)
        assert name == "BODY" or outline == "solid", name
    assert {
        "1",
        "5",
        "15",
        "60",
        "1440",
        "10080",
        "now",
        "failure-before",
        "failure-after",
        "date",
        "when",
        "timeline",
        "token",
        "unlocking",
        "SUMMARY",
    } <= reached
    page.locator("[data-minutes='60']").click()  # in which the pool began, however long ago
    comes(page, "pointer.marks[0]?.key === 'term 1'")
    page.locator("#timeline").focus()
    page.keyboard.press("Home")
    assert "Term 1: worker" in shown(page, "#details")
    page.keyboard.press("ArrowRight")
    first = shown(page, "#details")
    assert "due at" in first
    page.keyboard.press("ArrowDown")
    assert shown(page, "#details") not in {"", first}
    page.keyboard.press("Escape")
    assert shown(page, "#details") == ""


def test_a_phone_shows_it_all(whole: Pool, new_page: NewPage) -> None:
    """At 360 px nothing is wider than the screen, and a finger finds a mark."""
    page = new_page(whole, width=360, height=740, has_touch=True, is_mobile=True)
    unlock(page)
    page.get_by_role("button", name="Pause report").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == 360

    def tapped() -> str:
        x, y = page.evaluate("[pointer.marks.at(-1).x, pointer.marks.at(-1).y]")  # it moves on with time
        page.locator("#picture").tap(position={"x": x, "y": y})
        return shown(page, "#details")

    until(tapped, what="a mark under a finger says what it is")


def test_looking_back(pool: Pool, new_page: NewPage) -> None:
    """The stretch is asked of the ledger, stands still while it is looked at, and ends with "Now"."""
    leader = pool.leader()["leader"]["pid"]
    page = new_page(pool)
    page.locator("[data-minutes='1']").click()
    os.kill(leader, signal.SIGKILL)
    page.wait_for_selector("[data-sign=died]", state="attached")
    page.evaluate("state.span = 3000")  # so that a test need not last for minutes
    comes(page, "!document.getElementById('back').disabled")
    page.get_by_role("button", name="Back in time").press("Enter")
    comes(page, "state.past !== null && state.past.runs.size > 0")
    assert "now" not in shown(page, "#stretch")
    counted = shown(page, "#counts")
    seen = page.evaluate("Math.max(...state.live.runs.keys())")
    comes(page, "(seen) => Math.max(...state.live.runs.keys()) > seen + 2", seen)
    assert shown(page, "#counts") == counted
    page.get_by_role("button", name="Forward in time").press("Enter")
    comes(page, "state.until === null || state.past !== null")
    page.locator("#when").focus()
    page.keyboard.press("End")
    comes(page, "document.getElementById('stretch').textContent.includes('now')")
    page.get_by_role("button", name="Now", exact=True).wait_for()
    assert page.locator("#now").get_attribute("aria-pressed") == "true"
    pool.settled()


def an_hour_old(told: dict[str, Any]) -> dict[str, Any]:
    """Live data of a pool whose history begins an hour ago."""
    told["history"]["begins"] = (time.time() - 3600) * 1000
    return told


def test_the_stretch_is_in_the_address(whole: Pool, new_page: NewPage) -> None:
    """A reload, a copied link and Back keep it; a link to a job leaves it as it is."""
    page = new_page(whole, "#minutes=1")
    alter(page, "**/leader/live/data*", an_hour_old)
    comes(page, "state.span === 60000 && document.querySelector('[aria-pressed=true][data-minutes=\"1\"]')")
    comes(page, "serverNow() - state.begins > 3000e3")
    page.evaluate("setSpan(900e3); look(serverNow() - 900e3 + 0.4)")
    comes(page, "state.until !== null && location.hash === `#minutes=15&at=${Math.round(state.until)}`")
    there = page.evaluate("location.hash")
    page.reload()
    comes(page, "hash => state.past !== null && location.hash === hash && state.span === 900e3", there)
    page.locator("#jobs-table a.name", has_text="report").click()
    comes(page, "hash => place.job === 'report' && location.hash === `#job=report&${hash.slice(1)}`", there)
    page.locator("#to-jobs").click()
    comes(page, "hash => place.job === '' && location.hash === hash", there)
    page.locator("#now").click()
    comes(page, "location.hash === '#minutes=15'")
    page.evaluate("hash => { location.hash = hash }", there)
    comes(page, "state.until !== null")
    page.evaluate("location.hash = '#at=-5'")
    comes(page, "state.until === null")
    page.evaluate("hash => { replacePlace({ q: 'x' }); location.hash = hash; replacePlace({}) }", there)
    comes(page, "hash => location.hash === hash && state.until !== null", there)
    page.evaluate("location.hash = '#minutes=77'")
    comes(page, "state.until === null && state.span === 300e3 && location.hash === ''")


@pytest.mark.timeout(180)
def test_an_open_page_delays_no_shutdown_and_finds_its_way_back(pool: Pool, new_page: NewPage) -> None:
    """The pool stops while the page looks on, says so, and shows the next term when the pool is back."""
    page = new_page(pool)
    assert pool.stop() == 0
    assert "timeout graceful shutdown exceeded" not in pool.log.read_text(), "Uvicorn gave up on a connection"
    comes(page, "document.getElementById('link').textContent.includes('trying again')")
    pool.launch()
    comes(page, "document.getElementById('who').textContent.includes('in term 2')")
    page.wait_for_selector("[data-term='2']", state="attached")
    page.wait_for_selector("[data-sign=resigned]", state="attached")
    comes(page, "document.getElementById('link').textContent.includes('live')")
    pool.settled()


def test_it_asks_nobody_else(whole: Pool, new_page: NewPage) -> None:
    """One page and its questions, all to the pool itself."""
    page = new_page(whole)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    comes(page, PICTURE)
    until(lambda: page.wait_for_timeout(50) or len(asked) > 3)
    here = f"http://127.0.0.1:{whole.port}/leader/live"
    assert [url for url in asked if not url.startswith((here, "data:"))] == []


@pytest.mark.timeout(240)
def test_a_picture_of_takeovers(tmp_path: Path, new_page: NewPage) -> None:
    """The pictures in docs/: a leader dies; for those that are kept, one resigns and one hangs as well.

    ``ELECTION_PICTURES=1`` writes them into docs/images, after three quarters of a minute.
    """
    keep = os.environ.get("ELECTION_PICTURES") == "1"
    pool = Pool(tmp_path / "served", jobs=JOBS, environment={"ELECTION_FENCE_AFTER": "4"})
    try:
        pool.start()
        pages = {scheme: new_page(pool, color_scheme=scheme, width=1200) for scheme in ("light", "dark")}
        for page in pages.values():
            page.locator("[data-minutes='1']").click()
        run_for(pool, 12 if keep else 2)
        replace(pool, signal.SIGKILL)
        if keep:
            run_for(pool, 9)
            leader = pool.leader()["leader"]["pid"]
            pool.request("POST", "/leader/resign", headers=AUTHORIZED)
            pool.leader(but=leader)
            run_for(pool, 9)
            replace(pool, signal.SIGSTOP)
            run_for(pool, 6)
            replace(pool, signal.SIGKILL)
        term = pool.settled()["leader"]["term"]
        run_for(pool, 4 if keep else 1)
        for scheme, page in pages.items():
            page.wait_for_selector(f"[data-takeover='{term}']", state="attached")
            directory = ROOT / "docs/images" if keep else tmp_path
            directory.mkdir(exist_ok=True)
            path = directory / f"takeover-{scheme}.png"
            page.evaluate("document.getElementById('pool').hidden = true")  # a directory of pytest's
            page.screenshot(path=path, full_page=True)
            assert 20_000 < path.stat().st_size < 200_000
    finally:
        pool.reap()


FRAME_MS = 400
"""Milliseconds of a frame of the animated picture."""


@pytest.mark.timeout(240)
def test_an_animated_picture_of_a_takeover(tmp_path: Path, new_page: NewPage) -> None:
    """The picture on top of the README: the leader is killed, and the lanes change.

    ``ELECTION_PICTURES=1`` writes it into docs/images.
    """
    keep = os.environ.get("ELECTION_PICTURES") == "1"
    pool = Pool(tmp_path / "served", jobs=JOBS)
    try:
        pool.start()
        page = new_page(pool, width=960, height=660)
        page.locator("[data-minutes='1']").click()
        page.evaluate("document.getElementById('pool').hidden = true")  # a directory of pytest's
        run_for(pool, 20 if keep else 2)
        frames = [page.screenshot() for _ in range(5 if keep else 1)]
        replace(pool, signal.SIGKILL)
        term = pool.settled()["leader"]["term"]
        while len(frames) < (22 if keep else 4):
            frames.append(page.screenshot())
            page.wait_for_timeout(FRAME_MS)
        page.wait_for_selector(f"[data-takeover='{term}']", state="attached")
        frames.append(page.screenshot())
        path = (ROOT / "docs/images" if keep else tmp_path) / "takeover.gif"
        animate(frames, path)
        assert 10_000 < path.stat().st_size < 700_000
    finally:
        pool.reap()


def animate(frames: list[bytes], path: Path) -> None:
    """Write an animated picture that stays at its last frame for a while, and begins again."""
    from PIL import Image

    pictures = [Image.open(io.BytesIO(frame)).convert("RGB").quantize(32) for frame in frames]
    lasts = [FRAME_MS] * (len(pictures) - 1) + [3000]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=lasts, loop=0, optimize=True)


def run_for(pool: Pool, seconds: int) -> None:
    """Let the job of each second run so many times."""
    latest = until(lambda: runs_of(pool, "report"))[0]["seq"]
    until(
        lambda: sum(run["seq"] > latest for run in runs_of(pool, "report")) >= seconds,
        what=f"{seconds} runs",
        timeout=60,
    )


def replace(pool: Pool, number: signal.Signals) -> None:
    """Signal the leader, and wait until another one leads."""
    leader = pool.leader()["leader"]["pid"]
    os.kill(leader, number)
    pool.leader(but=leader)


def test_without_an_answer_it_says_so_and_promises_nothing(pool: Pool, new_page: NewPage) -> None:
    """P8: heading, title, icon, colours and clocks: nothing on the page tells of a now that nobody knows."""
    page = new_page(pool)
    led = pool.leader()["leader"]
    pool.stop()
    comes(page, "document.getElementById('who').textContent.startsWith('No worker has answered for ')")
    assert page.title() == "no answer · election"
    assert f"worker {led['pid']} led, in term {led['term']}" in shown(page, "#how")
    assert shown(page, "#heart").strip() == "not known"
    assert "stale" in page.locator("body").get_attribute("class")
    assert "6b7480" in page.locator("#icon").get_attribute("href")
    clocks = page.evaluate("[serverNow(), $('stretch').textContent]")
    page.wait_for_timeout(1200)
    assert page.evaluate("[serverNow(), $('stretch').textContent]") == clocks, "the clocks stand"
    assert "the last answer" in clocks[1]
    for cell in page.locator("#jobs-table tbody tr td:nth-of-type(1)").all_inner_texts():
        assert cell.endswith("if somebody leads then") or cell.startswith("owed since"), cell
    comes(page, "document.getElementById('announce').textContent.includes('No worker answers')")
    pool.start()
    comes(page, "document.getElementById('who').textContent.startsWith('Worker ')")
    assert page.locator("body.stale").count() == 0


def test_while_nobody_leads_ticks_are_owed(pool: Pool, new_page: NewPage) -> None:
    page = new_page(pool)
    alter(page, "**/live/data*", without_leader)
    comes(page, "document.getElementById('who').textContent === 'Nobody leads'")
    assert page.title() == "nobody leads · election"
    comes(page, "document.querySelector('[data-job=report] td').textContent.startsWith('owed since')")
    comes(page, "document.querySelector('[data-job=later] td').textContent.endsWith('if somebody leads then')")


def test_a_tick_that_a_stopped_leader_does_not_run_is_owed(pool: Pool, new_page: NewPage) -> None:
    """The first one, and not the latest, until the leader goes on."""
    page = new_page(pool)
    cell = "document.querySelector('[data-job=report] td').textContent"
    leader = pool.leader()["leader"]["pid"]
    os.kill(leader, signal.SIGSTOP)
    try:
        comes(page, f"{cell}.startsWith('owed since') && $('who').textContent.includes('hangs')")
        words = page.evaluate(cell)
        comes(page, r"/\d owed: .*report/.test($('attention').textContent)")
        page.wait_for_timeout(1500)  # another tick falls due
        assert page.evaluate(cell) == words
    finally:
        os.kill(leader, signal.SIGCONT)
    comes(page, f"!{cell}.startsWith('owed since') && !$('attention').textContent.includes('owed')")


def test_a_tick_that_waits_for_the_run_before_needs_no_attention(pool: Pool, new_page: NewPage) -> None:
    """Without a run under way, it does; a tick that is being claimed does not."""
    seen = {"ago": 5, "running": 1}

    def behind(document: dict[str, Any]) -> dict[str, Any]:
        due = datetime.fromtimestamp(document["now"] / 1000 - seen["ago"], UTC).isoformat()
        for job in document["pool"]["jobs"]:
            job["next_run_time"] = None
            if job["id"] == "report":
                job |= {"next_run_time": due, "running": seen["running"]}
        return document

    page = new_page(pool)
    alter(page, "**/live/data*", behind)
    cell = "document.querySelector('[data-job=report] td').textContent"
    comes(page, f"{cell}.startsWith('owed since') && {cell}.endsWith(', a run is under way')")
    assert "owed" not in page.evaluate("$('attention').textContent")
    seen["running"] = 0
    comes(page, "$('attention').textContent.includes('1 owed: report')")
    seen["ago"] = 1
    comes(page, f"{cell}.endsWith(', now') && !$('attention').textContent.includes('owed')")


def test_equal_pids_on_two_hosts_have_a_lane_each(whole: Pool, new_page: NewPage) -> None:
    """As in containers, where each pool is process 1. Hosts are named if there are several, and only then."""
    page = new_page(whole)
    assert "web2" not in page.evaluate("document.body.textContent")
    assert " on " not in shown(page, "#who") + shown(page, "#link")
    alter(page, "**/live/data*", in_two_containers)
    page.reload()
    names = "[...document.querySelectorAll('#picture .pid')].map((lane) => lane.firstChild.data)"
    comes(page, f"{names}.sort().join() === '1 web1,1 web2'")
    heights = page.evaluate("[...document.querySelectorAll('#picture .term')].map((bar) => bar.getAttribute('y'))")
    assert len(set(heights)) == 2
    assert page.locator("#picture .handover").count() == 1
    assert shown(page, "#who") == "Worker 1 on web2 leads, in term 9"
    assert "It took over from worker 1 on web1, which died" in shown(page, "#how")
    assert page.evaluate("sayTerm(termsIn(state.live, stretch()).at(-1))").endswith("because worker 1 on web1 died.")
    assert shown(page, "#link").endswith("answered by 1 on web1")
    page.locator("#behind summary").press("Enter")  # no mouse: rows above may move it
    comes(page, "$('terms-table').tBodies[0].rows[1]?.cells[1].textContent === '1 on web1'")


def in_two_containers(document: dict[str, Any]) -> dict[str, Any]:
    """The document of a pool of two, whose leader has died and been replaced; both are process 1 of their host."""
    pool, now = document["pool"], document["now"]
    worker = pool["workers"][0] | {"pid": 1}
    pool["workers"] = [worker | {"host": "web1", "role": "follower"}, worker | {"host": "web2", "role": "leader"}]
    pool["answered_by"] |= {"pid": 1, "host": "web1"}
    pool["leader"] |= {"pid": 1, "host": "web2", "term": 9}
    pool["last_takeover"] |= {"term": 9, "from_pid": 1, "to_pid": 1, "reason": "died", "takeover_ms": 3.0}
    term = document["history"]["terms"][0] | {"pid": 1, "end": None, "standing": None}
    document["history"]["terms"] = [
        term | {"term": 9, "host": "web2", "at": now - 20_000, "reason": "died", "from": 1, "ms": 3.0},
        term | {"term": 8, "host": "web1", "at": now - 40_000},
    ]
    return document


def without_leader(document: dict[str, Any]) -> dict[str, Any]:
    """The document while an election is under way, with a job that is due and one that will be."""
    pool, now = document["pool"], document["now"] / 1000
    pool["leader"], pool["state"] = None, "electing"
    report = next(job for job in pool["jobs"] if job["id"] == "report")
    report["next_run_time"] = datetime.fromtimestamp(now - 5, UTC).isoformat()
    later = datetime.fromtimestamp(now + 60, UTC).isoformat()
    pool["jobs"].append({**report, "id": "later", "name": "later", "next_run_time": later})
    return document


def test_each_row_of_the_picture_is_one_job_and_bears_its_name(whole: Pool, new_page: NewPage) -> None:
    """Also of more jobs than fit on a screen."""
    page = new_page(whole)
    alter(page, "**/live/data*", with_many_jobs)
    page.evaluate("state.live.upTo = null")
    comes(page, "document.querySelectorAll('#picture .job').length >= 40")
    rows = page.evaluate(
        "[...document.querySelectorAll('#picture .job')].map((row) => [row.dataset.row, row.getAttribute('y')])"
    )
    assert len({job for job, _ in rows}) == len(rows) == len({y for _, y in rows})
    box = page.locator("#timeline").bounding_box()
    assert box["height"] <= 720, "more rows are scrolled to"


def with_many_jobs(document: dict[str, Any]) -> dict[str, Any]:
    runs = document["history"]["runs"]
    if runs:
        runs += [{**runs[0], "seq": 10**6 + number, "job": f"job-{number}"} for number in range(40)]
    return document


@pytest.fixture
def two_jobs(tmp_path: Path) -> Iterator[Pool]:
    """A pool with a job that is well, and one that always fails, whose name means harm."""
    pool = Pool(tmp_path / "two", jobs="report,hostile")
    try:
        yield pool.start()
    finally:
        pool.reap()


def test_needs_attention_names_what_is_wrong_and_leads_to_it(two_jobs: Pool, new_page: NewPage) -> None:
    page = new_page(two_jobs)
    assert two_jobs.run_command("pause", "report").returncode == 0
    comes(page, "document.querySelectorAll('#attention a').length === 2")
    words = shown(page, "#attention")
    assert "1 failing: " in words
    assert "1 paused: report" in words
    page.locator("#attention a", has_text="<").click()
    comes(page, "!$('job').hidden")
    assert shown(page, "#job-title") == HOSTILE
    page.get_by_role("link", name="All jobs").click()
    assert two_jobs.run_command("resume", "report").returncode == 0
    comes(page, "document.querySelectorAll('#attention a').length === 1")
    two_jobs.stop()
    comes(page, "document.querySelector('#attention').hidden")


def test_nothing_needs_attention(tmp_path: Path, new_page: NewPage) -> None:
    calm = Pool(tmp_path / "calm", jobs="report")
    try:
        page = new_page(calm.start())
        comes(page, "document.querySelector('#attention').className === 'attention fine'")
        assert page.locator("#attention a").count() == 0
    finally:
        calm.reap()


NEWS_S = 10
"""Seconds for which a page asks more often after news; a busy machine may take as long to ask five times."""


def test_a_page_without_news_asks_once_a_second(tmp_path: Path, new_page: NewPage) -> None:
    asked: list[float] = []
    calm = Pool(tmp_path / "calm", jobs="someday")
    try:
        page = new_page(calm.start())
        page.on("request", lambda request: "/leader/live/data" in request.url and asked.append(time.monotonic()))
        comes(page, "state.pool?.leader != null")
        until(lambda: page.wait_for_timeout(100) or len(asked) > 9, what="several questions")
        while asked[-1] - asked[-9] < 7:  # eight pauses of a second each
            page.wait_for_timeout(100)
        killed_at = float("-inf")

        def asks_more_often() -> bool:
            nonlocal killed_at
            if time.monotonic() - killed_at > NEWS_S:
                os.kill(calm.leader()["leader"]["pid"], signal.SIGKILL)
                killed_at = time.monotonic()
                page.wait_for_timeout(100)  # which delivers the questions of the time before
                asked.clear()
            page.wait_for_timeout(100)
            return len(asked) > 4 and asked[-1] - asked[-5] < 3

        until(asks_more_often, what="news, and shorter pauses")
    finally:
        calm.reap()


def test_a_button_follows_its_request_to_the_end(pool: Pool, new_page: NewPage) -> None:
    page = new_page(pool)
    unlock(page)
    page.get_by_role("button", name="Run report now").click()
    comes(page, "/^report succeeded in /.test(document.getElementById('said').textContent)")
    assert page.locator("[data-job=report] .answer").inner_text() == shown(page, "#said"), "beside the button, too"
    page.route("**/requests/*", lambda route: route.fulfill(json=SKIPPED))
    page.get_by_role("button", name="Run report now").click()
    comes(page, "$('said').textContent === 'report was not run: skipped, the run before was still going.'")


SKIPPED = {"id": 1, "action": "run", "outcome": "skipped", "reason": "overlap", "run": None}


def test_a_wrong_token_is_told_at_once(whole: Pool, new_page: NewPage) -> None:
    page = new_page(whole)
    unlock(page, "a wrong token, of some length")
    comes(page, "$('said').textContent === 'The token was not accepted: the token is missing or wrong.'")
    assert page.get_by_role("button", name="Pause report").count() == 0


def test_the_application_s_login_controls_without_a_token(tmp_path: Path, new_page: NewPage) -> None:
    """With its cookie, an administrator has buttons and no prompt, and others have neither."""
    served = LoginServer(tmp_path)
    try:
        served.start()
        ann, ben = (new_page(served, storage_state=cookie(user)) for user in ("ann", "admin%20ben"))
        comes(ben, "!document.querySelector('th.control').hidden")
        comes(ann, "control.isAsked && !control.isAccepted && document.querySelector('th.control').hidden")
        assert ann.locator("#unlock").is_hidden()
        assert ben.locator("#unlock").is_hidden()
        ben.get_by_role("button", name="Pause").click()
        comes(ben, "$('said').textContent.endsWith('is paused.')")
        with served.client("ann") as client:
            (change,) = client.get(served.url("/changes")).json()["changes"]
        assert (change["action"], change["by"]) == ("pause", "admin%20ben")
    finally:
        served.reap()


def cookie(user: str) -> dict[str, Any]:
    """State of a browser in which a user has logged in."""
    fixed = {"domain": "127.0.0.1", "path": "/", "expires": -1, "httpOnly": True, "secure": False, "sameSite": "Lax"}
    return {"cookies": [{"name": "user", "value": user, **fixed}], "origins": []}
