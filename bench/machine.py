"""Description of the machine and its software: enough to judge a figure by, without identifying the machine."""

from __future__ import annotations

import os
import platform
import sqlite3
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

SHOWN = (
    "election", "fastapi", "uvicorn", "uvloop", "apscheduler", "filelock", "pydantic", "redis", "psycopg", "sqlalchemy",
    "fastapi-crons", "fastapi-task-manager",
)  # fmt: skip


def describe() -> dict[str, Any]:
    """Lines for the head of a result."""
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "system": f"{platform.system()} {platform.release().split('-')[0]}, {platform.machine()}",
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory.split()[1]) / 2**20),
        "load_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "versions": {name: _version(name) for name in SHOWN},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
