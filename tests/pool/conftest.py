"""Served pools for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.pool import Pool, quiet_pools


@pytest.fixture
def new_pool(tmp_path: Path) -> Iterator[Callable[..., Pool]]:
    """Factory of pools, not started yet; afterwards they are reaped, and their logs must hold no traceback."""
    with quiet_pools(tmp_path) as make:
        yield make


@pytest.fixture
def pool(new_pool: Callable[..., Pool]) -> Pool:
    """A started pool of three workers with a job each second."""
    return new_pool().start()
