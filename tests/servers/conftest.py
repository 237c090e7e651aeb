"""Pools of the applications in docs/guides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.pool import Pool, quiet_pools


@pytest.fixture
def new_pool(tmp_path: Path) -> Iterator[Callable[..., Pool]]:
    with quiet_pools(tmp_path) as make:
        yield make
