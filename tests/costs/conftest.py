"""Minimal workers of a real pool."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.pool import ROOT
from tests.support.waiting import until

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Where a pool may be."""
    return tmp_path / "pool"


@pytest.fixture
def start(pool: Path) -> Iterator[Start]:
    """Start another worker with these options; return when it is listed in the pool. They are killed at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def one_more(**options: float) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.costs.worker", str(pool), json.dumps(options)]
        started.append(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL))
        pid = started[-1].pid
        until(lambda: [*(pool / "workers").glob(f"{pid}-*.json")], what=f"worker {pid} takes part")
        return started[-1]

    yield one_more
    for worker in started:
        worker.kill()
        worker.wait()


@pytest.fixture
def leader(pool: Path, start: Start) -> subprocess.Popen[bytes]:
    """The pool's first worker, whose work runs."""
    first = start()
    record = pool / "leader.json"
    until(lambda: record.exists() and json.loads(record.read_bytes())["takeover"]["takeover_ms"], what="it leads")
    return first


def opened(pid: int) -> str:
    """Targets of the open descriptors of a process."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.append(os.readlink(link))
    return "\n".join(found)
