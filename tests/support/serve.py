"""Runs run.py with the application, event loop and start method that a test names."""

from __future__ import annotations

import multiprocessing
import os

from uvicorn import _subprocess

import run

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
"""Modules imported once in a pool whose workers are forked from a server process; ``spawn`` imports them in each."""


def use_fork_server() -> None:
    """Fork each worker from a process that has imported the libraries, which saves most of the cost of its start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    _subprocess.spawn = context  # type: ignore[assignment]


if __name__ == "__main__":
    if os.environ.get("ELECTION_TEST_START") == "forkserver":
        use_fork_server()
    run.main(
        os.environ.get("ELECTION_TEST_APPLICATION", "tests.support.application"),
        loop=os.environ.get("ELECTION_TEST_LOOP", "auto"),
        access_log=os.environ.get("ELECTION_TEST_ACCESS_LOG", "yes") == "yes",
    )
