"""The applications of docs/guides/moving.md, each moved here from another scheduler, under four workers with kills."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.markdown import Block, blocks_of
from tests.support.pool import ROOT, Pool, ServerCommand

PORTS = [
    block
    for block in blocks_of(ROOT / "docs/guides/moving.md")
    if block.language == "python" and "app = FastAPI" in block.code
]
KILLS, WORKERS = 3, 4
UVICORN = ServerCommand(
    "uvicorn", (sys.executable, "-m", "uvicorn", "main:app", "--workers", str(WORKERS), "--port", "{port}")
)


def test_there_are_enough_ports() -> None:
    assert len(PORTS) >= 7


@pytest.mark.extended
@pytest.mark.timeout(180)
@pytest.mark.parametrize("port", PORTS, ids=str)
def test_a_port_goes_on_through_three_kills(port: Block, new_pool: Callable[..., Pool], tmp_path: Path) -> None:
    """P1 to P4: after each kill of the leader another worker runs the jobs, and the history keeps every promise."""
    (tmp_path / "main.py").write_text(port.code)
    pool = new_pool(
        server=UVICORN,
        workers=WORKERS,
        pool=tmp_path / "var/pool",
        environment={"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        cwd=tmp_path,
    ).start()
    jobs = [job["id"] for job in pool.leader()["jobs"]]
    assert jobs
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
