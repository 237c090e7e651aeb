"""Parent of a server that all processes of a test run share; it ends the server when no process uses it.

``python -m tests.support.keeper KIND DIRECTORY``: in the directory, ``users`` is locked by each process that uses the
server, and ``ready`` contains its address.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .postgres_server import PostgresServer, make_directory, make_template, needs_programs, reachable
from .redis_server import Server


@contextlib.contextmanager
def redis() -> Iterator[dict[str, Any]]:
    """A Valkey server that has run for long enough to elect."""
    directory = Path(tempfile.mkdtemp(prefix="election-valkey-"))
    server = Server(directory)
    try:
        yield {"port": server.start().grown_up().port}
    finally:
        server.kill()
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def postgres() -> Iterator[dict[str, Any]]:
    """A PostgreSQL server, and the template of its data."""
    home = make_directory()
    try:
        programs, template = reachable(needs_programs(), home), home / "template"
        make_template(programs, template)
        server = PostgresServer(programs, template=template, max_connections=500)
        try:
            server.start()
            yield {"port": server.port, "template": str(template)}
        finally:
            server.close()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def keep(kind: str, directory: Path) -> None:
    """Run a server until no process holds the lock."""
    ready, draft = directory / "ready", directory / "draft"
    with {"redis": redis, "postgres": postgres}[kind]() as found:
        draft.write_text(json.dumps(found))
        draft.rename(ready)
        with (directory / "users").open("r+b") as users:
            fcntl.lockf(users, fcntl.LOCK_EX)
            ready.unlink()


if __name__ == "__main__":
    keep(sys.argv[1], Path(sys.argv[2]))
