"""A permanent fault fails the start with one clear line; a temporary one does not."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.support.pool import ROOT, Pool
from tests.support.ports import free_port
from tests.support.waiting import until


def start(*flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *flags],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of the refusal."""
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if "run.py: " in line]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refused(start("--port", str(port), "--pool", str(tmp_path / "pool")))
    assert f"127.0.0.1:{port}" in said
    assert "--port" in said


def test_pool_path_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "pool").write_text("")
    said = refused(start("--port", str(free_port()), "--pool", str(tmp_path / "pool")))
    assert "is a file, not a directory" in said


def test_pool_path_is_a_link(tmp_path: Path) -> None:
    """docs/pitfalls.md#20."""
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "pool").symlink_to(tmp_path / "real")
    said = refused(start("--port", str(free_port()), "--pool", str(tmp_path / "pool")))
    assert "symbolic link" in said
    assert str(tmp_path / "real") in said


def test_wrong_flag() -> None:
    done = start("--workers", "0")
    assert done.returncode != 0
    assert "workers" in done.stderr


def test_environment_variables_do_what_flags_do(tmp_path: Path) -> None:
    (tmp_path / "pool").write_text("")
    said = refused(start(ELECTION_PORT=str(free_port()), ELECTION_POOL=str(tmp_path / "pool")))
    assert str(tmp_path / "pool") in said


def test_a_passing_fault_fails_no_start(new_pool: Callable[..., Pool]) -> None:
    """docs/pitfalls.md#40: no seat can be taken at the start (the lock file is a directory): the pool serves and
    reports the reason.
    """
    pool = new_pool(workers=2)
    (pool.path / "leader.lock").mkdir(parents=True)
    pool.path.chmod(0o700)
    pool.launch()
    answer = until(lambda: (found := pool.get()) is not None and found.json()["problem"] and found, timeout=60)
    assert answer.status_code == 503
    assert answer.json()["state"] == "electing"
    assert "leader.lock" in answer.json()["problem"]
    (pool.path / "leader.lock").rmdir()
    assert pool.leader()["leader"]["term"] == 1
