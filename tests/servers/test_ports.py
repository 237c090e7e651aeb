"""The applications of docs/guides/moving.md and ports.md, each moved here from another scheduler, with four workers
and kills."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.docs.markdown import Block, blocks_of, sides, table
from tests.support.pool import ROOT, Pool, ServerCommand
from tests.support.waiting import until

DIFFERENCES = [block for block in blocks_of(ROOT / "docs/guides/ports.md") if block.language == "diff"]
PORTS = [
    block
    for block in blocks_of(ROOT / "docs/guides/moving.md")
    if block.language == "python" and "app = FastAPI" in block.code
] + [replace(block, code=sides(block)[1]) for block in DIFFERENCES]
NOT_INSTALLED = {"fastapi_utils", "flask_apscheduler", "sqlalchemy"}
"""Packages of applications before they were moved; where one is missing, the application is compiled only."""

REMIND = "/reminders/ann?at=2100-01-01T00:00:00Z&text=hello"
"""Request that adds a job at run time, to the application that has such a route."""

_SERVE = """
from fastapi.testclient import TestClient
import before
with TestClient(before.app) as client:
    assert client.get("/openapi.json").status_code == 200
"""
KILLS, WORKERS = 3, 4
UVICORN = ServerCommand(
    "uvicorn",
    (sys.executable, "-m", "tests.support.forked_workers", "main:app", "--workers", str(WORKERS), "--port", "{port}"),
)


def test_there_are_enough_ports() -> None:
    assert len(PORTS) - len(DIFFERENCES) >= 7
    assert len(DIFFERENCES) >= 5


def test_each_port_is_shorter_afterwards() -> None:
    lengths = [tuple(len(side.splitlines()) for side in sides(block)) for block in DIFFERENCES]
    assert [(int(before), int(after)) for _, before, after in table("docs/guides/ports.md", "port")] == lengths
    assert [each for each in lengths if each[1] >= each[0]] == []


@pytest.mark.extended
@pytest.mark.parametrize("port", DIFFERENCES, ids=str)
def test_the_application_works_before_it_is_moved(port: Block, tmp_path: Path) -> None:
    code = sides(port)[0]
    imports = {
        node.module.partition(".")[0]
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.ImportFrom) and node.module
    }
    imports |= {"sqlalchemy"} if "SQLAlchemyJobStore" in code else set()
    missing = {name for name in imports if find_spec(name) is None}
    assert missing <= NOT_INSTALLED
    if not missing:
        (tmp_path / "before.py").write_text(code)
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        subprocess.run(
            [sys.executable, "-W", "error", "-c", _SERVE], cwd=tmp_path, env=environment, check=True, timeout=90
        )


@pytest.mark.extended
@pytest.mark.parametrize("port", PORTS, ids=str)
def test_a_port_goes_on_through_three_kills(port: Block, new_pool: Callable[..., Pool], tmp_path: Path) -> None:
    """P1 to P4: after each kill of the leader another worker runs the jobs, and the history keeps every promise."""
    (tmp_path / "main.py").write_text(port.code)
    pool = new_pool(
        server=UVICORN,
        workers=WORKERS,
        pool=tmp_path / "var/pool",
        environment={
            "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
            "UVICORN_TIMEOUT_WORKER_HEALTHCHECK": "30",  # as under run.py: the default of 5 s kills busy workers
        },
        cwd=tmp_path,
    ).start()
    if '"/reminders/{user}"' in port.code:
        assert pool.request("PUT", REMIND).status_code == 200
    jobs = until(lambda: [job["id"] for job in pool.leader()["jobs"]], what="jobs")
    for _ in range(KILLS):
        leader = pool.settled()["leader"]
        os.kill(leader["pid"], signal.SIGKILL)
        found = pool.leader(but=leader["pid"])
        assert (found["leader"]["term"], found["last_takeover"]["reason"]) == (leader["term"] + 1, "died")
        for job in jobs:
            done = pool.run_command("run", job, "--wait", "30")
            assert done.returncode == 0, (job, done.stdout, done.stderr)
    code, said = pool.verify()
    assert code == 0, said
    pool.stop()
