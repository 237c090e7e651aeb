"""Uvicorn whose workers are forked from a process that has imported the libraries: most of the cost of their start.

``python -m tests.support.forked_workers`` is Uvicorn's command line with such workers.
"""

from __future__ import annotations

import multiprocessing

import uvicorn
from uvicorn import _subprocess

LIBRARIES = [
    "apscheduler.schedulers.asyncio",
    "election",
    "fastapi",
    "httptools",
    "prometheus_client",
    "pydantic_settings",
    "sqlite3",
    "uvicorn.main",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.supervisors",
    "uvloop",
]
"""Modules that are imported once in a pool; ``spawn`` imports them in each worker."""


def use_fork_server() -> None:
    """Fork the workers of this process's Uvicorn."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    _subprocess.spawn = context  # type: ignore[assignment]


if __name__ == "__main__":
    use_fork_server()
    uvicorn.main()
