"""Serves the application that the test wants with run.py, on the event loop that it wants."""

from __future__ import annotations

import os

import run

if __name__ == "__main__":
    run.main(
        os.environ.get("ELECTION_TEST_APPLICATION", "tests.pool.app"),
        loop=os.environ.get("ELECTION_TEST_LOOP", "auto"),
        access_log=os.environ.get("ELECTION_TEST_ACCESS_LOG", "yes") == "yes",
    )
