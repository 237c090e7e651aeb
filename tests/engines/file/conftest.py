"""Fixtures: a nursery of workers for all tests of the file engine, a pool for each."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.engines.file.pool")

from tests.engines.file.pool import Nursery, Pool  # noqa: E402  only now, so that its assertions are told in full


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    if sys.platform != "linux":
        pytest.skip("the workers are signalled by pidfd, and looked at in /proc")
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture
def pool(nursery: Nursery, tmp_path: Path) -> Iterator[Pool]:
    """A pool of real processes; at the end no two of its workers may have led at one instant (P1), terms grew (P2)."""
    pool = Pool(nursery, tmp_path)
    yield pool
    pool.close()


@pytest.fixture
def children() -> Iterator[list[int]]:
    """Children of workers, to be killed at the end: their parents may be dead by then."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        if Path(f"/proc/{pid}").exists():
            os.kill(pid, signal.SIGKILL)
