"""The programs of docs/guides/applications.md, used as their readers would."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi.testclient import TestClient

from tests.support.waiting import until, until_async

from .recipes import load_recipe

PAGE = "docs/guides/applications.md"


@contextmanager
def telegram() -> Iterator[tuple[str, list[int]]]:
    """A server with five updates, two an answer; and the offsets that it was asked for.

    As with Telegram's own, an offset confirms what is before it, and confirmed updates are not given again.
    """
    offsets: list[int] = []
    confirmed = 100

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nonlocal confirmed
            offsets.append(int(parse_qs(urlsplit(self.path).query)["offset"][0]))
            confirmed = max(confirmed, offsets[-1])
            updates = [{"update_id": number} for number in range(confirmed, min(confirmed + 2, 105))]
            if not updates:
                idle.wait(0.05)  # a long poll, much shortened
            body = json.dumps({"ok": True, "result": updates}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    idle = threading.Event()
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}", offsets
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


@pytest.mark.anyio
async def test_a_poller_confirms_each_update_and_the_next_term_goes_on_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handled: list[int] = []

    async def handle(update: dict[str, Any]) -> None:
        handled.append(update["update_id"])

    with telegram() as (url, offsets):
        module: Any = load_recipe(PAGE, "TELEGRAM_API", tmp_path, monkeypatch, TELEGRAM_API=url)
        module.handle = handle
        async with module.election:
            await until_async(lambda: offsets[-1:] == [105])
        asked = len(offsets)
        async with module.election:  # another term
            await until_async(lambda: len(offsets) > asked + 1)
    assert handled == [100, 101, 102, 103, 104]


def test_a_customer_has_a_job_and_takes_it_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = load_recipe(PAGE, "/customers/{customer}", tmp_path, monkeypatch)

    def reports() -> dict[str, int]:
        return {job.id: job.next_run_time.hour for job in module.election.jobs.list(tag="report").result()}

    with TestClient(module.app) as client:
        until(lambda: client.get("/leader").status_code == 200, what="it leads")
        for customer, hour in [(7, 7), (77, 9), (7, 8)]:
            answer = client.put(f"/customers/{customer}/report", params={"hour": hour, "timezone": "UTC"})
            assert answer.status_code == 200
        # The leader writes the tags of a job when it has read it.
        until(lambda: reports() == {"report 7": 8, "report 77": 9}, what="both reports")
        assert client.delete("/customers/7").status_code == 200
        assert reports() == {"report 77": 9}
