"""A pool for each test of the file engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.engines.file.pool import Pool
from tests.support.processes import ForkServer


@pytest.fixture
def pool(workers: ForkServer, tmp_path: Path) -> Iterator[Pool]:
    """A pool of real processes; at the end no two of its workers may have led at the same time (P1), and terms grew
    (P2).
    """
    pool = Pool(workers, tmp_path)
    yield pool
    pool.close()


@pytest.fixture
def children() -> Iterator[list[psutil.Process]]:
    """Children of workers, to be killed at the end: their parents may be dead by then, and their pids others'."""
    found: list[psutil.Process] = []
    yield found
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
