"""Runs run.py with the application, event loop and start method that a test names."""

from __future__ import annotations

import os

import run
from tests.support.forked_workers import use_fork_server

if __name__ == "__main__":
    if os.environ.get("ELECTION_TEST_START") == "forkserver":
        use_fork_server()
    run.main(
        os.environ.get("ELECTION_TEST_APPLICATION", "tests.support.application"),
        loop=os.environ.get("ELECTION_TEST_LOOP", "auto"),
        access_log=os.environ.get("ELECTION_TEST_ACCESS_LOG", "yes") == "yes",
    )
