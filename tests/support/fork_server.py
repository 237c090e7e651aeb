"""Server that forks workers that follow commands; ``python -m tests.support.fork_server FD`` reads requests from
socket FD.

It imports a kind of worker once, so that a worker starts in milliseconds; it holds no lock, loop or thread that a fork
could copy. A kind is a module with ``async def main(options, channel)``, which takes part in a pool until the test
closes the channel, and optionally ``preload(options)``, which runs in the server, like gunicorn's ``--preload``.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import importlib
import inspect
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import TypeAdapter

from tests.support.facts import FactFile

PR_SET_PDEATHSIG = 1

RESULT: TypeAdapter[Any] = TypeAdapter(Any)


async def follow(channel: socket.socket, find: Callable[[str], Callable[..., Any]]) -> None:
    """Run each command that arrives on ``channel``, and write its result; return when the channel is closed.

    find: the function, perhaps a coroutine function, for a command.
    """
    reader, writer = await asyncio.open_connection(sock=channel)
    while line := await reader.readline():
        name, arguments = json.loads(line)
        try:
            result = find(name)(**arguments)
            result = await result if inspect.isawaitable(result) else result
            answer = {"result": RESULT.dump_python(result, mode="json")}
        except Exception:
            answer = {"error": traceback.format_exc()}
        writer.write(json.dumps(answer).encode() + b"\n")


def serve(control: socket.socket) -> None:
    """Fork a worker for each request, until the test closes the socket; how each ends goes to its facts."""
    facts: dict[int, str] = {}

    def reap(*_: Any) -> None:
        for pid, status in _ended():
            path = facts.pop(pid, None)
            if path is None:
                continue
            with contextlib.suppress(OSError), contextlib.closing(FactFile(path)) as file:  # or its directory is gone
                file.write("exited", pid=pid, text=f"code {os.waitstatus_to_exitcode(status)}")

    signal.signal(signal.SIGCHLD, reap)  # no zombies, unless a test needs them
    while True:
        content, descriptors, *_ = socket.recv_fds(control, 65536, 1)
        if not content:
            return
        request = json.loads(content)
        if "zombies" in request:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL if request["zombies"] else reap)
            reap()
            control.send(b"0")
            continue
        kind = importlib.import_module(request["kind"])
        if request["options"].get("preload"):
            kind.preload(request["options"])
        gc.freeze()
        pid = os.fork()
        if pid == 0:
            control.close()
            _live(kind, request["options"], socket.socket(fileno=descriptors[0]))
        facts[pid] = request["options"]["facts"]  # before the test lets it begin
        os.close(descriptors[0])
        control.send(str(pid).encode())


def _ended() -> Iterator[tuple[int, int]]:
    """Reap children that have ended: their pids and wait statuses."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            yield ended


def _live(kind: Any, options: dict[str, Any], channel: socket.socket) -> None:
    """Run a forked worker; does not return."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    status = 1
    try:
        assert channel.recv(1) == b"!"
        asyncio.run(kind.main(options, channel))
        status = 0
    except BaseException:
        FactFile(options["facts"]).write("crash", text=traceback.format_exc())
    finally:
        os._exit(status)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
