"""Servers for tests: all processes of a run share one, and none is left behind, however those processes end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.postgres_server import needs_programs
from tests.support.redis_server import needs_valkey
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]

SHARES = """
from tests.support.servers import shared
with shared("postgres", place) as found:
    report(found)
"""
OWNS = """
from tests.support.redis_server import Server
report({"pid": Server(place / "own").start().pid})
"""
PROGRAM = """
import json, sys, time
from pathlib import Path
place = Path(sys.argv[1])
def report(found):
    print(json.dumps(found), flush=True)
    sys.stdin.read()
"""
"""A process of the test run: it reports its server, and ends with its standard input."""

Start = Callable[[str], tuple[subprocess.Popen[str], dict[str, Any]]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start such a process; return it and its report."""
    with ExitStack() as scope:

        def start(program: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
            command = [sys.executable, "-c", PROGRAM + program, str(tmp_path)]
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            process = scope.enter_context(subprocess.Popen(command, cwd=ROOT, **pipes))
            scope.callback(process.kill)
            assert process.stdout is not None
            return process, json.loads(process.stdout.readline())

        yield start


@pytest.mark.extended
def test_processes_share_a_server_that_ends_with_the_last_of_them(start: Start) -> None:
    needs_programs()
    first, found = start(SHARES)
    second, same = start(SHARES)
    assert same == found
    home = Path(found["template"]).parent
    [server] = [each for each in psutil.process_iter() if f"port={found['port']}" in _command(each)]
    first.kill()
    first.wait()
    third, same = start(SHARES)
    assert (same, server.is_running()) == (found, True), "others use it"
    second.communicate("")  # ends in good order
    third.kill()
    until(lambda: not server.is_running() and not home.exists(), what="the server is gone, and so are its data")
    _, another = start(SHARES)
    assert another["template"] != found["template"], "a later process is given a new server"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends a child with its parent on Linux only")
def test_a_server_of_a_tests_own_ends_with_its_process(start: Start) -> None:
    needs_valkey()
    process, found = start(OWNS)
    os.kill(found["pid"], 0)
    process.kill()
    until(lambda: not psutil.pid_exists(found["pid"]), what="the server is gone")


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
