"""Modules that ``import election`` loads: every worker pays for them at its start, and a dead worker's replacement
too.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.extended

BESIDE = "import apscheduler.schedulers.asyncio, fastapi, filelock, pydantic"
"""Modules that an application with scheduled jobs loads anyway."""

UNWANTED = {
    "aiosqlite", "httpx", "httpx2", "matplotlib", "opentelemetry", "prometheus_client", "psycopg", "redis", "rich",
    "shtab", "sqlalchemy", "tkinter", "uvicorn", "yaml",
    "concurrent.futures.process", "multiprocessing", "subprocess", "urllib.request",
    *(["psutil"] if sys.platform == "linux" else []),
}  # fmt: skip
"""Modules for some applications only, imported on use."""


def modules(code: str) -> set[str]:
    """Modules loaded in a new interpreter by ``code``."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_what_an_import_brings_in() -> None:
    beside = modules(BESIDE)
    brought = modules(f"{BESIDE}; import election") - beside
    assert UNWANTED & brought == set()
    own = {name for name in brought if name.partition(".")[0] == "election"}
    assert len(own) <= 89, sorted(own)
    assert len(brought - own) <= 12, sorted(brought - own)
