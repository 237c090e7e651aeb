"""Commands of ``python -m election``, each in a process forked from one that has imported them: a tenth of a start.

``python -m tests.support.forked_commands`` reads a command from each line of its input, and answers with its exit code.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

LIMIT_S = 60
"""Seconds after which a command is ended."""


def run_command(arguments: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run ``python -m election ARGUMENTS`` in the folder of the repository; with another clock, in a new process."""
    if "LD_PRELOAD" in environment:
        return subprocess.run(
            [sys.executable, "-m", "election", *arguments],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False,
        )  # fmt: skip
    try:
        return _server().run(arguments, environment)
    except BaseException:  # the answer to this command must not be taken for that to the next one
        _server().kill()
        _server.cache_clear()
        raise


class _CommandServer:
    """Client of the process that forks; it ends with this process."""

    def __init__(self) -> None:
        self._one_at_a_time = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forked_commands"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, arguments: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as folder, self._one_at_a_time:
            files = [os.path.join(folder, name) for name in ("stdout", "stderr")]
            request = {"arguments": arguments, "environment": dict(environment), "files": files}
            self._process.stdin.write(f"{json.dumps(request)}\n")
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
            out, err = (Path(file).read_text() for file in files)
        return subprocess.CompletedProcess(arguments, code, out, err)

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(LIMIT_S)
        self._process.stdout.close()


@functools.cache
def _server() -> _CommandServer:
    return _CommandServer()


def close() -> None:
    """End the process that forks, if it was started."""
    if _server.cache_info().currsize:
        _server().close()
        _server.cache_clear()


def _serve() -> None:
    """Fork a process for each command, until the input ends."""
    import election.cli  # noqa: F401  once, before the forks

    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _run(**request)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(arguments: list[str], environment: dict[str, str], files: list[str]) -> None:
    """Run a command in the forked process; does not return."""
    from election.cli import main

    code: Any = 1
    try:
        signal.alarm(LIMIT_S)
        for descriptor, file in enumerate(files, start=1):
            os.dup2(os.open(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.clear()
        os.environ.update(environment)
        time.tzset()
        code = main(arguments)
    except SystemExit as error:
        code = error.code
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    _serve()
