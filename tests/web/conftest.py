"""Pools for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from election.web import view
from tests.support.pool import WorkerPool


@pytest.fixture(scope="session", autouse=True)
def jobs_are_fresh() -> Iterator[None]:
    """Here the document's jobs are hardly older than the request, so that no test waits for that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(view, "MAX_AGE_S", 0.02)
        yield


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerPool]:
    """A leader and a follower, in processes of their own, for all tests that leave the pool whole."""
    pair = WorkerPool(tmp_path_factory.mktemp("pair"))
    try:
        pair.start()
        yield pair
    finally:
        pair.reap()


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Where a pool may be."""
    return tmp_path / "pool"


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[WorkerPool]:
    """A pool of processes for one test alone, not started yet."""
    pair = WorkerPool(tmp_path)
    yield pair
    pair.reap()


@pytest.fixture
def living(tmp_path: Path) -> Iterator[WorkerPool]:
    """A pool of one process of another application."""
    pool = WorkerPool(tmp_path)
    try:
        pool.start(1)
        yield pool
    finally:
        pool.reap()
