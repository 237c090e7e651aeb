"""The README's two commands, as a newcomer gives them: in a fresh clone, by an unprivileged user with an empty home.

``newcomer.py CLONE``: ``make run`` until /leader answers ``led``, ``kill -9`` of the leader, a successor, Ctrl-C; then
``make test``. Exits with 1 at the first step that fails. Only the standard library is used: nothing is installed yet.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STARTED_S = 180
"""Limit for installing and electing: a mirror of the package index may be slow."""

STEP_S = 30
TESTS_S = 1500


def ask(port: int) -> dict[str, Any] | None:
    """Return the document of /leader; None while nobody answers or nobody leads."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/leader", headers={"Connection": "close"})
        answer = connection.getresponse()
        if answer.status == http.client.OK:
            return dict(json.loads(answer.read()))
    return None


def wait(found: Callable[[], Any], seconds: float, name: str) -> Any:
    """Return what ``found`` returns as soon as that is true. Raises ``SystemExit`` after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.1)
    raise SystemExit(f"newcomer: not within {seconds:g} s: {name}")


def run(clone: Path, port: int) -> None:
    began = time.monotonic()
    make = subprocess.Popen(
        ["make", "run"], cwd=clone, env={**os.environ, "ELECTION_PORT": str(port)}, start_new_session=True
    )
    try:
        first = wait(lambda: ask(port), STARTED_S, "make run: /leader answers led")
        print(f"newcomer: make run led after {time.monotonic() - began:.1f} s", flush=True)

        def whole() -> bool:
            found = ask(port)
            return found is not None and len(found["workers"]) == 4

        wait(whole, STEP_S, "four workers take part")
        os.kill(first["leader"]["pid"], signal.SIGKILL)

        def successor() -> dict[str, Any] | None:
            found = ask(port)
            later = found is not None and found["leader"]["term"] > first["leader"]["term"]
            return found if later and found["last_takeover"]["takeover_ms"] is not None else None

        second = wait(successor, STEP_S, "a successor leads after kill -9")["last_takeover"]
        assert second["reason"] == "died", second
        print(f"newcomer: took over from pid {second['from_pid']} in {second['takeover_ms']} ms", flush=True)
        os.killpg(make.pid, signal.SIGINT)  # Ctrl-C reaches the whole foreground group
        make.wait(STEP_S)
        wait(lambda: not _group_lives(make.pid), STEP_S, "no process is left after Ctrl-C")
        wait(lambda: not _listens(port), STEP_S, "the port is free after Ctrl-C")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(make.pid, signal.SIGKILL)
        make.wait()


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(clone: Path) -> int:
    """Give both commands; return the exit status."""
    assert os.geteuid() != 0, "a newcomer is not root"
    print(f"newcomer: Python {sys.version.split()[0]}, uid {os.geteuid()}, PATH {os.environ['PATH']}", flush=True)
    run(clone, free_port())
    began = time.monotonic()
    tests = subprocess.run(["make", "test"], cwd=clone, check=False, timeout=TESTS_S)
    print(f"newcomer: make test took {time.monotonic() - began:.0f} s from the environment of make run", flush=True)
    return tests.returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
