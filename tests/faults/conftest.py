"""Real pools, as for the tests of ``tests/pool``; and a disk."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pool.conftest import new_pool, pool
from tests.support.disk import Disk

__all__ = ["disk", "new_pool", "pool"]


@pytest.fixture
def disk(tmp_path: Path, as_root: None) -> Iterator[Disk]:
    """A disk of the test's own, mounted."""
    try:
        disk = Disk(tmp_path)
        disk.mount()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no filesystem can be made and mounted here: {error}")
    yield disk
    subprocess.run(["umount", "-l", str(disk.path)], check=False, capture_output=True)
