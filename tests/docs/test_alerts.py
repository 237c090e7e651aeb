"""The recipes of docs/guides/alerts.md against a server on this machine."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import until_async

from .markdown import ROOT
from .recipes import load_recipe, write_recipe

pytestmark = pytest.mark.anyio

PAGE = "docs/guides/alerts.md"

Received = list[tuple[str, str]]

_RUN_SENTRY = """
import asyncio, contextlib, sys
import recipe
from election import RunError

def fail():
    raise ValueError("no luck")

async def main():
    recipe.election.scheduled_job("interval", hours=1, id="report")(lambda: None)
    recipe.election.scheduled_job("interval", hours=1, id="app.jobs:Fails")(fail)
    async with recipe.election:
        await recipe.election.wait_until_leading()
        for job in ("report", "app.jobs:Fails"):
            with contextlib.suppress(RunError):
                await (await recipe.election.run_now(job)).result()
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""
"""Program that runs two jobs, one of which fails, until its input ends. The SDK patches libraries of its process."""


@contextmanager
def server() -> Iterator[tuple[str, Received]]:
    """A server that keeps the path and the body of each request, in their order."""
    received: Received = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            received.append((self.path, body.decode()))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}", received
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


class Fails:
    """A job that fails at first."""

    def __init__(self, times: int) -> None:
        self.left = itertools.count(times, -1)

    async def __call__(self) -> None:
        if next(self.left) > 0:
            raise ValueError("no luck")


async def test_a_webhook_is_told_of_failure_and_recovery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with server() as (url, received):
        module: Any = load_recipe(PAGE, "WEBHOOK_URL", tmp_path, monkeypatch, WEBHOOK_URL=f"{url}/hook")
        module.election.scheduled_job("interval", seconds=0.1, id="report")(Fails(3))
        async with module.election:
            await until_async(lambda: len(received) >= 2)
    bodies = dict.fromkeys(body for path, body in received if path == "/hook")  # a call that fails is repeated
    told = [json.loads(body) for body in bodies]
    assert [(each["event"], each["job_id"], each["failures"]) for each in told] == [
        ("job_failing", "report", 3),
        ("job_recovered", "report", 3),
    ]
    assert told[0]["error"] == "ValueError: no luck"


async def test_each_run_pings_its_start_and_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with server() as (url, received):
        module: Any = load_recipe(PAGE, "PING_URL", tmp_path, monkeypatch, PING_URL=f"{url}/key")
        module.election.scheduled_job("interval", seconds=0.1, id="app.jobs:Report", max_instances=1)(Fails(1))
        async with module.election:
            await until_async(lambda: len(received) >= 4)
            await asyncio.sleep(0)
    assert [path for path, _ in received[:4]] == [
        "/key/app-jobs-report/start?create=1",
        "/key/app-jobs-report/fail?create=1",
        "/key/app-jobs-report/start?create=1",
        "/key/app-jobs-report?create=1",
    ]
    assert received[1][1] == "ValueError: no luck"


def check_ins(received: Received) -> list[dict[str, Any]]:
    """The check-ins in envelopes that Sentry's SDK has sent: after the envelope's header, each item is two lines."""
    found = []
    for path, body in received:
        assert path == "/api/7/envelope/"
        lines = body.splitlines()[1:]
        found += [json.loads(item) for header, item in itertools.pairwise(lines) if '"check_in"' in header]
    return [each for each in found if "check_in_id" in each]


@pytest.mark.extended
async def test_each_run_is_a_check_in_at_sentry(tmp_path: Path) -> None:
    write_recipe(PAGE, "sentry_sdk", tmp_path)
    with server() as (url, received):
        environment = {
            **os.environ,
            "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
            "SENTRY_DSN": f"{url.replace('://', '://key@')}/7",
        }
        with subprocess.Popen(
            [sys.executable, "-c", _RUN_SENTRY], cwd=tmp_path, env=environment, stdin=subprocess.PIPE
        ) as process:
            try:
                await until_async(lambda: len(check_ins(received)) >= 4 or process.poll() is not None)
                process.communicate(timeout=30)
            finally:
                process.kill()
        assert process.returncode == 0
    told = check_ins(received)
    assert sorted((each["monitor_slug"], each["status"]) for each in told) == [
        ("app-jobs-fails", "error"),
        ("app-jobs-fails", "in_progress"),
        ("report", "in_progress"),
        ("report", "ok"),
    ]
    begun = {each["check_in_id"]: each for each in told if each["status"] == "in_progress"}
    ended = {each["check_in_id"]: each for each in told if each["status"] != "in_progress"}
    assert begun.keys() == ended.keys()
    assert all(each["duration"] >= 0 for each in ended.values())
    configured = {each["monitor_slug"] for each in told if "monitor_config" in each}
    assert configured == {"report"}
