"""Fixtures of the tests of the schedule."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.schedule.term_bench import TermBench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[TermBench]:
    """A worker whose terms the test begins."""
    bench = TermBench(tmp_path)
    yield bench
    await bench.close()
