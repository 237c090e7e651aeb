"""A visitor's first minute: the page at ``/``, three lines that say what to do, and an access log that can be read."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.logs import WithoutPolling, log_config
from tests.support.pool import ROOT, Pool, ServerCommand
from tests.support.waiting import until

DEMONSTRATION = ServerCommand(
    "run.py",
    (sys.executable, str(ROOT / "run.py"), "--port", "{port}", "--workers", "{workers}", "--pool", "{pool}"),
)


@pytest.mark.parametrize(
    ("path", "logged"), [("/leader", True), ("/leader/live", True), ("/leader/live/data?since=1", False)]
)
def test_the_access_log_is_without_the_page_s_questions(path: str, logged: bool) -> None:
    arguments = ("127.0.0.1:5000", "GET", path, "1.1", 200)
    record = logging.LogRecord("uvicorn.access", logging.INFO, "", 0, '%s - "%s %s HTTP/%s" %d', arguments, None)
    assert WithoutPolling().filter(record) is logged
    assert log_config("info", "text")["handlers"]["access"]["filters"] == ["without polling"]


def test_a_browser_is_brought_to_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELECTION_POOL", str(tmp_path))
    from app.main import app

    client = TestClient(app)
    brought = client.get("/", headers={"Accept": "text/html,application/xhtml+xml"}, follow_redirects=False)
    assert (brought.status_code, brought.headers["location"]) == (307, "leader/live")
    assert client.get("/").json()["page"] == "/leader/live"


def test_three_lines_say_what_to_do(tmp_path: Path) -> None:
    pool = Pool(tmp_path / "served", server=DEMONSTRATION)
    try:
        pool.start()
        leader = pool.leader()["leader"]["pid"]
        log = tmp_path / "served" / "log"
        until(lambda: "failover: kill" in log.read_text(), what="the last of the lines")
        found = re.findall(r"(watch|expect|failover): +(.*)", log.read_text())
        assert [name for name, _ in found] == ["watch", "expect", "failover"]
        assert found[0][1] == f"http://127.0.0.1:{pool.port}/leader/live"
        assert re.fullmatch(r"the next report at \d\d:\d\d:\d\d|a report in seconds 0 to 30 .*", found[1][1])
        assert found[2][1] == f"kill -9 {leader}, or the button at http://127.0.0.1:{pool.port}/kill"
    finally:
        pool.reap()
