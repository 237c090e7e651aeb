"""Served pools, as in ``tests/pool``; and a disk."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pool.conftest import new_pool, pool
from tests.support.disk import Disk, NoDiskError

__all__ = ["disk", "new_pool", "pool"]


@pytest.fixture
def disk(tmp_path: Path, as_root: None) -> Iterator[Disk]:
    """A separate disk, mounted."""
    try:
        disk = Disk.mounted(tmp_path)
    except NoDiskError as error:
        pytest.skip(str(error))
    yield disk
    subprocess.run(["umount", "-l", str(disk.path)], check=False, capture_output=True)
