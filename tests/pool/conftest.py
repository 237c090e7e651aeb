"""Real pools for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.pool import Pool


@pytest.fixture
def new_pool(tmp_path: Path) -> Iterator[Callable[..., Pool]]:
    """Makes pools, not started yet; afterwards they are reaped, and their logs must hold no traceback."""
    made: list[Pool] = []

    def make(**options: Any) -> Pool:
        made.append(Pool(tmp_path / str(len(made)), **options))
        return made[-1]

    yield make
    for pool in made:
        if pool.parent is not None:
            pool.reap()
    for pool in made:
        text = pool.log.read_text() if pool.log.exists() else ""
        assert "Traceback" not in text, text[-4000:]


@pytest.fixture
def pool(new_pool: Callable[..., Pool]) -> Pool:
    """A pool of four workers with a job each second, started."""
    return new_pool().start()
