"""Pools for the commands: a live one, a stopped one, and copies of that one to be damaged."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from election import Election
from election.cli import main
from election.engines import open_engine
from election.engines.file.ledger import SqliteLedger
from tests.support.pool import ROOT, WorkerPool
from tests.support.waiting import until, until_async


@pytest.fixture(autouse=True)
def no_blocked_loop() -> None:
    """In place of the fixture for all tests: a command has its own loop, and may read a file on it."""


WORDS = "no\nsuch \x1b[31mluck"
"""Error text of a job with line breaks and terminal control sequences."""

called: Counter[str] = Counter()


async def good() -> None:
    """A job that succeeds."""
    called["good"] += 1


def bad() -> None:
    """A job that fails."""
    called["bad"] += 1
    raise ValueError(WORDS)


async def live(pool: Path | str, *, pause: bool, ledger: str | None = None) -> None:
    """A term in the pool, with runs of both jobs, and with a pause of one of them on request."""
    called.clear()
    election = Election(pool, heartbeat=0.02, ledger=ledger)
    election.scheduled_job("interval", seconds=0.1, id="good", tags=["fine", "small"])(good)
    election.scheduled_job("interval", seconds=0.1, id="bad")(bad)
    books = open_engine(pool, heartbeat=0.02, safety_poll=1, ledger=ledger).open_ledger()
    async with election:
        await until_async(lambda: min(called["good"], called["bad"]) >= 3)
        if pause:
            await books.pause("good", True)
            before = called["bad"]
            await until_async(lambda: called["bad"] >= before + 3)
            await books.pause("good", False)
            before = called["good"]
            await until_async(lambda: called["good"] >= before + 2)
    await books.close()


@pytest.fixture(scope="session")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool with two terms that was stopped in order."""
    pool = tmp_path_factory.mktemp("ended") / "pool"
    asyncio.run(live(pool, pause=False))
    asyncio.run(live(pool, pause=True))
    return pool


@pytest.fixture
def spoiled(ended: Path, tmp_path: Path) -> Path:
    """A copy of it that counts as the original, for a test to damage."""
    shutil.copytree(ended, tmp_path / "pool", ignore=shutil.ignore_patterns("leader.alive", "*-shm", "*-wal"))
    os.mkfifo(tmp_path / "pool" / "leader.alive", 0o600)
    asyncio.run(adopted(tmp_path / "pool"))
    return tmp_path / "pool"


async def adopted(pool: Path) -> None:
    ledger = SqliteLedger(str(pool / "ledger.db"))
    try:
        assert await ledger.adopt()
    finally:
        await ledger.close()


@pytest.fixture(scope="session")
def living(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerPool]:
    """A pool of two processes, which changes only its leader."""
    pair = WorkerPool(tmp_path_factory.mktemp("living"))
    try:
        pair.start()
        yield pair
    finally:
        pair.reap()


@pytest.fixture
def orphaned(tmp_path: Path) -> Iterator[tuple[WorkerPool, int]]:
    """A pool whose only worker was killed, and the pid of its child that keeps the lock for a minute."""
    pair = WorkerPool(tmp_path)
    child: psutil.Process | None = None
    try:
        pair.start(1)
        leader = pair.leader()
        until(lambda: len(pair.facts("often")) > 1, what="there is some history")
        child = psutil.Process(int(leader.request("POST", "/child").json()))
        pair.kill_leader()
        yield pair, child.pid
    finally:
        pair.reap()
        if child is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()  # unless its pid is another process's by now


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command in this process; return its exit code, stdout and stderr."""

    def run(command: str, pool: Path | str, *arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([command, "--pool", str(pool), *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def ask(call: Call) -> Callable[..., Any]:
    """Run a command with ``--json``; return its document, parsed strictly."""

    def run(command: str, pool: Path | str, *arguments: str, code: int = 0) -> Any:
        found, out, err = call(command, pool, "--json", *arguments)
        assert found == code, (out, err)
        return json.loads(out, parse_constant=pytest.fail)

    return run


def as_program(
    *arguments: str, environment: dict[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """``python -m election …`` as a user runs it, with warnings as errors, and nothing said about a terminal."""
    about_terminals = {"COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE"}  # the first is set in workers of pytest
    inherited = {name: value for name, value in os.environ.items() if name not in about_terminals}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "election", *arguments],
        cwd=ROOT,
        env={**inherited, "PYTHONPATH": str(ROOT), **(environment or {})},
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[WorkerPool]:
    """A pool for one test, without workers yet."""
    pair = WorkerPool(tmp_path)
    yield pair
    pair.reap()
