"""The servers that run FastAPI in several workers: one leader each, a takeover, and no term on the way down."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.support.ports import free_port
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
APP = "tests.servers.app:app"

SERVERS = {
    "uvicorn": ["uvicorn", APP, "--port", "{port}", "--workers", "3"],
    "gunicorn": [
        "gunicorn",
        APP,
        "-b",
        "127.0.0.1:{port}",
        "-w",
        "3",
        "-k",
        "uvicorn_worker.UvicornWorker",
        "--preload",
    ],
    "hypercorn": ["hypercorn", APP, "-b", "127.0.0.1:{port}", "-w", "3"],
    "granian": [
        "granian",
        APP,
        "--interface",
        "asgi",
        "--port",
        "{port}",
        "--workers",
        "3",
        "--respawn-failed-workers",
    ],
}

SURVIVE_A_KILL = sorted(SERVERS.keys() - {"hypercorn"})
"""Hypercorn 0.18 ends as a whole when one of its workers is killed, and so there is nobody to take over."""

TELL_ALL_WORKERS = ["gunicorn", "uvicorn"]
"""Hypercorn and Granian end their workers one after the other, without a signal that Python sees: there another worker
may begin a term, as after any resignation, before it is ended itself; docs/operations.md says so."""


class Server:
    """A server with three workers, looked at from outside."""

    def __init__(self, name: str, directory: Path) -> None:
        self.pool = directory / "pool"
        self.log = directory / "log"
        port = free_port()
        self._client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *(part.format(port=port) for part in SERVERS[name])],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "POOL": str(self.pool)},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._family: dict[int, psutil.Process] = {}

    def leader(self, *, but: int | None = None) -> dict[str, Any]:
        def led() -> dict[str, Any] | None:
            with contextlib.suppress(httpx2.TransportError):
                answer = self._client.get("/leader", headers={"Connection": "close"})
                found: dict[str, Any] = answer.json()
                if answer.status_code == 200 and found["leader"]["pid"] != but and len(found["workers"]) > 1:
                    return found
            return None

        return until(led, timeout=60, what=f"somebody other than {but} leads; log: {self.log}")

    def record(self) -> dict[str, Any]:
        return dict(json.loads((self.pool / "leader.json").read_bytes()))

    def stop(self) -> None:
        self.family()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        until(lambda: not self.family(), what="every process of the server is gone")

    def family(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.process.pid)
            self._family |= {one.pid: one for one in [parent, *parent.children(recursive=True)]}
        return [one for one in self._family.values() if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]

    def reap(self) -> None:
        for one in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        self.process.wait()
        self._client.close()


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    running = Server(request.param, tmp_path)
    yield running
    running.reap()
    assert "Traceback" not in running.log.read_text()


@pytest.mark.parametrize("server", SURVIVE_A_KILL, indirect=True)
def test_takeover_after_a_kill(server: Server) -> None:
    """P1, P6; docs/pitfalls.md#17 under gunicorn --preload: what was made before the fork holds nothing."""
    first = server.leader()["leader"]
    os.kill(first["pid"], signal.SIGKILL)
    second = server.leader(but=first["pid"])
    assert second["leader"]["term"] == first["term"] + 1
    assert second["last_takeover"]["reason"] == "died"


@pytest.mark.parametrize("server", SERVERS, indirect=True)
def test_takeover_after_a_resignation(server: Server) -> None:
    """P1, P6: asked to resign from outside, by whichever server it is served."""
    first = server.leader()["leader"]
    command = [sys.executable, "-m", "election", "resign", "--pool", str(server.pool)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    second = server.leader(but=first["pid"])
    assert second["leader"]["term"] == first["term"] + 1
    assert second["last_takeover"]["reason"] == "resigned"


@pytest.mark.parametrize("server", TELL_ALL_WORKERS, indirect=True)
def test_stopping_begins_no_term(server: Server) -> None:
    """docs/pitfalls.md#34."""
    term = server.leader()["leader"]["term"]
    server.stop()
    assert (server.record()["term"], server.record()["standing"]) == (term, "resigned")


STARTED_TOO_LATE = """
import contextlib, os, signal
from fastapi import FastAPI
from election import Election

election = Election(os.environ["ELECTION_POOL"], heartbeat=0.05)

@contextlib.asynccontextmanager
async def lifespan(app):
    os.kill(os.getpid(), signal.SIGTERM)
    async with election:
        yield

app = FastAPI(lifespan=lifespan)
"""
"""An application that is told to stop while it starts, as a worker that its server has just replaced may be."""


def test_told_to_stop_while_it_starts_a_worker_begins_no_term(tmp_path: Path) -> None:
    """Uvicorn starts the application all the same, and ends without its shutdown."""
    (tmp_path / "late.py").write_text(STARTED_TOO_LATE)
    done = subprocess.run(
        [sys.executable, "-m", "uvicorn", "late:app", "--port", str(free_port())],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}", "ELECTION_POOL": str(tmp_path / "pool")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Application startup complete" in done.stderr, done.stderr
    assert not (tmp_path / "pool" / "leader.json").exists()
    assert "elected" not in done.stderr
