"""A server whose application knows its users by a cookie, and protects the routes of the election itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Self

import httpx2

from tests.support.pool import ROOT, ServerProcess
from tests.support.ports import free_port
from tests.support.waiting import until


class LoginServer(ServerProcess):
    """Uvicorn with the application of ``application_login``; each user has a client."""

    def __init__(self, directory: Path) -> None:
        port = free_port()
        super().__init__(
            [sys.executable, "-m", "uvicorn", "tests.support.application_login:app", "--port", str(port)],
            port=port,
            log=directory / "log",
            environment={
                **{name: value for name, value in os.environ.items() if name != "ELECTION_ADMIN_TOKEN"},
                "PYTHONPATH": str(ROOT),
                "ELECTION_POOL": str(directory / "pool"),
            },
            cwd=ROOT,
        )

    def client(self, user: str | None) -> httpx2.Client:
        return self._new_client(cookies={} if user is None else {"user": user})

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/leader{path}"

    def start(self) -> Self:
        """Start it, and wait until its job is planned."""
        self.launch()
        with self.client("ann") as client:

            def is_planned() -> bool:
                try:
                    return bool(client.get(self.url("")).json()["jobs"][0]["next_run_time"])
                except (httpx2.HTTPError, KeyError, IndexError):
                    return False

            until(is_planned, 60, what=f"a leader; log: {self.log}")
        return self
