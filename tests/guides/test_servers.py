"""docs/guides/servers.md: its application under each of its commands, with real workers, a kill and a stop."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from election.engines import open_engine
from tests.docs.markdown import ROOT, blocks_of
from tests.support.ports import free_port
from tests.support.waiting import until

PAGE = ROOT / "docs/guides/servers.md"
COMMANDS = [block.code.removeprefix("$ ").strip() for block in blocks_of(PAGE) if block.language == "console"]

REPLACES = {"uvicorn", "fastapi", "gunicorn", "granian"}
"""The servers that start another worker for one that was killed."""


def test_all_servers_are_told_of() -> None:
    assert [command.split()[0] for command in COMMANDS] == ["uvicorn", "fastapi", "gunicorn", "granian", "hypercorn"]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.split()[0])
def test_the_guide_works(command: str, tmp_path: Path) -> None:
    (application,) = [block.code for block in blocks_of(PAGE) if block.language == "python"]
    (tmp_path / "main.py").write_text(application)
    name = command.split(maxsplit=1)[0]
    arguments = shlex.split(re.sub(r"\b8000\b", str(free_port()), command))
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "PYTHONUNBUFFERED": "1"}
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=tmp_path, env=environment, stdout=log, stderr=log
        )
    ever: dict[int, psutil.Process] = {}
    try:
        pool = tmp_path / "var/pool"
        first = until(lambda: leading(pool), timeout=60, what=lambda: (tmp_path / "log").read_text()[-2000:])
        until(lambda: len(runs(pool)) >= 2, timeout=30)
        assert {run["term"] for run in runs(pool)} == {first[1]}, "one worker runs it"
        ever.update({child.pid: child for child in psutil.Process(server.pid).children(recursive=True)})
        if name in REPLACES:
            os.kill(first[0], signal.SIGKILL)
            second = until(lambda: later(pool, first[1]), timeout=30)
            assert second[0] != first[0]
            until(lambda: [run for run in runs(pool) if run["term"] == second[1]], timeout=30)
            ever.update({child.pid: child for child in psutil.Process(server.pid).children(recursive=True)})
        server.send_signal(signal.SIGTERM)
        server.wait(30)
        until(lambda: not [child for child in ever.values() if child.is_running() and child.status() != "zombie"])
    finally:
        for process in [*ever.values(), *([psutil.Process(server.pid)] if server.poll() is None else [])]:
            if process.is_running():
                process.kill()
        server.wait(10)


def leading(pool: Path) -> tuple[int, int] | None:
    """The leader's pid and term; None if nobody leads."""
    if not pool.exists():
        return None
    seen = open_engine(pool, heartbeat=0.5, safety_poll=1.0).seat.observe()
    return (seen.record.holder.pid, seen.record.term) if seen.led and seen.record else None


def later(pool: Path, term: int) -> tuple[int, int] | None:
    found = leading(pool)
    return found if found is not None and found[1] > term else None


def runs(pool: Path) -> list[dict[str, Any]]:
    """What ``python -m election runs`` tells."""
    done = subprocess.run(
        [sys.executable, "-m", "election", "runs", "--json", "--pool", str(pool)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    return list(json.loads(done.stdout)) if done.returncode == 0 else []
