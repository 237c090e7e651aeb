"""A pool works within the sandbox of the systemd unit, in the part that the kernel applies without systemd."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deploy import sandbox
from tests.support.pool import ROOT, RUN_PY, Pool, ServerCommand, quiet_pools
from tests.support.postgres_server import RunningPostgres
from tests.support.servers import new_name
from tests.support.tools import needs, skip_missing
from tests.support.waiting import until

SANDBOX = (sys.executable, "-m", sandbox.__name__)

CONFINED = ServerCommand("run.py within the sandbox", (*SANDBOX, *RUN_PY.command))

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(autouse=True)
def sandbox_exists() -> None:
    try:
        ctypes.CDLL(sandbox.LIBRARY)
    except OSError:
        skip_missing(f"{sandbox.LIBRARY} is not installed")
    if subprocess.run([*SANDBOX, "true"], cwd=ROOT, capture_output=True, check=False).returncode != 0:
        skip_missing("this kernel has no filter of system calls, or no protection of executable memory")


@pytest.fixture
def new_pool(tmp_path: Path) -> Iterator[Callable[..., Pool]]:
    with quiet_pools(tmp_path) as make:
        yield lambda **options: make(server=CONFINED, start_method="spawn", **options)


@needs("systemd-analyze")
@pytest.mark.parametrize("engine", ["file", "postgres"])
def test_a_pool_works_in_the_sandbox(
    engine: str, new_pool: Callable[..., Pool], request: pytest.FixtureRequest
) -> None:
    """It elects, survives the death of a leader, fences one that stands still, reloads, and stops in order."""
    url = None
    if engine == "postgres":
        server: RunningPostgres = request.getfixturevalue("postgres_server")
        url = server.url(pool=new_name())
    pool = new_pool(pool=url, workers=2, environment={"ELECTION_FENCE_AFTER": "4"}).start()
    assert pool.parent is not None
    assert pool.request("HEAD", "/readyz").status_code == 200

    died = pool.settled()["leader"]["pid"]
    os.kill(died, signal.SIGKILL)
    pool.leader(but=died)

    stands_still = pool.settled()["leader"]["pid"]
    os.kill(stands_still, signal.SIGSTOP)
    assert pool.leader(but=stands_still)["last_takeover"]["reason"] == "fenced"

    before = {worker["pid"] for worker in pool.settled()["workers"]}
    pool.parent.send_signal(signal.SIGHUP)
    until(lambda: not before & {worker["pid"] for worker in pool.settled()["workers"]}, 60, what="a reload is complete")
    assert pool.stop() == 0
    code, said = pool.verify()
    assert code == 0, said


@needs("systemd-analyze")
@pytest.mark.parametrize(
    "statement",
    [
        "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "import os; os.chown('.', os.getuid(), os.getgid())",
        "import os; os.nice(1)",
        "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)",
    ],
)
def test_the_sandbox_refuses(statement: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", f"{statement}\n"]
    free = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=30)
    assert free.returncode == 0, free.stderr
    confined = subprocess.run([*SANDBOX, *command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30)
    assert confined.returncode == 1
    assert "PermissionError" in confined.stderr
