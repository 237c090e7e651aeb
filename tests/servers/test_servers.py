"""docs/guides/servers.md: its application under each of its commands, with a kill, a resignation and a stop."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.docs.markdown import blocks_of
from tests.support.pool import ROOT, Pool, ServerCommand
from tests.support.ports import free_port
from tests.support.waiting import until

PAGE = ROOT / "docs/guides/servers.md"
COMMANDS = {
    command.split()[0]: command
    for block in blocks_of(PAGE)
    if block.language == "console" and (command := block.code.removeprefix("$ ").strip())
}

WORKERS = 3

HEALTHCHECK = {"UVICORN_TIMEOUT_WORKER_HEALTHCHECK": "30"}
"""As under run.py: Uvicorn's own default of 5 s kills workers that are only busy; ``fastapi run`` does not take it."""


def server_command(name: str, *more: str, **behaviour: bool) -> ServerCommand:
    """The guide's command with a free port in place of 8000, and with ``more`` arguments."""
    arguments = shlex.split(re.sub(r"\b8000\b", "{port}", COMMANDS[name]))
    assert f"--workers {WORKERS}" in COMMANDS[name]
    return ServerCommand(" ".join([name, *more]), (sys.executable, "-m", *arguments, *more), **behaviour)


SERVERS = [
    server_command("uvicorn"),
    server_command("fastapi"),
    server_command("gunicorn"),
    server_command("gunicorn", "--preload"),
    server_command("granian", signals_all_workers=False),
    server_command("hypercorn", signals_all_workers=False, replaces_killed_workers=False),
]
"""Hypercorn 0.18 ends as a whole when one of its workers is killed, so no worker is left to take over. Hypercorn and
Granian end their workers one after the other, without a signal that Python sees: another worker may begin a term
before its own end, as after any resignation; docs/operations.md describes it.
"""


def test_the_guide_names_all_servers() -> None:
    assert [*COMMANDS] == ["uvicorn", "fastapi", "gunicorn", "granian", "hypercorn"]
    assert {server.name.split()[0] for server in SERVERS} == COMMANDS.keys()


@pytest.mark.extended
@pytest.mark.parametrize("server", [pytest.param(server, id=server.name) for server in SERVERS])
def test_the_guide_works(server: ServerCommand, new_pool: Callable[..., Pool], tmp_path: Path) -> None:
    """P1, P2, P6: one worker runs the job; a kill and a resignation have one successor each; a stop has none.

    docs/pitfalls.md#17 under ``gunicorn --preload``: objects made before the fork hold nothing. docs/pitfalls.md#34: no
    term begins on the way down.
    """
    (application,) = [block.code for block in blocks_of(PAGE) if block.language == "python"]
    (tmp_path / "main.py").write_text(application)
    python_path = f"{tmp_path}{os.pathsep}{ROOT}"
    pool = new_pool(
        server=server,
        workers=WORKERS,
        pool=tmp_path / "var/pool",
        environment={"PYTHONPATH": python_path, **HEALTHCHECK},
        cwd=tmp_path,
    )
    first = pool.start().settled()["leader"]
    until(lambda: len(runs(pool)) >= 2)
    assert {run["term"] for run in runs(pool)} == {first["term"]}, "one worker runs it"
    if server.replaces_killed_workers:
        os.kill(first["pid"], signal.SIGKILL)
        first = check_successor(pool, first, "died")
    done = pool.run_command("resign")
    assert done.returncode == 0, done.stderr
    last = check_successor(pool, first, "resigned")
    pool.stop()
    if server.signals_all_workers:
        assert (pool.record()["term"], pool.record()["standing"]) == (last["term"], "resigned")


def check_successor(pool: Pool, leader: dict[str, Any], reason: str) -> dict[str, Any]:
    """Another worker leads the next term and runs the job; returns the new leader once all workers take part."""
    found = pool.leader(but=leader["pid"])
    assert found["leader"]["term"] == leader["term"] + 1
    assert found["last_takeover"]["reason"] == reason
    until(lambda: [run for run in runs(pool) if run["term"] == found["leader"]["term"]])
    return dict(pool.settled()["leader"])


def runs(pool: Pool) -> list[dict[str, Any]]:
    """The document of ``python -m election runs``."""
    done = pool.run_command("runs", "--json")
    return list(json.loads(done.stdout)) if done.returncode == 0 else []


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
"""Application whose worker is told to stop while it starts, like a replacement during a shutdown."""


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
