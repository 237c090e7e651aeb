"""A worker of a pool without a web server: an elector on a file seat, that writes down facts and does as it is told.

``python -m tests.engines.file.worker FD`` is the nursery: it imports everything once, and then forks a worker for each
request on the socket FD, so that a worker costs milliseconds. It holds no lock, loop or thread that a fork could copy.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import inspect
import json
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import AsyncIterator, Callable
from typing import Any

from election.core.clock import SystemClock
from election.core.elector import Elector
from election.core.errors import ConfigurationError
from election.core.term import Term
from election.engines import Engine, open_engine
from tests.engines.file import deeds
from tests.support.facts import FactFile

PR_SET_PDEATHSIG = 1
TICK = 0.005


class Worker:
    """Takes part in one pool until told to stop, or until whoever talks to it hangs up.

    options: pool, facts, heartbeat, safety_poll, fence_after; before: deeds to do first, as [name, arguments].
    engine: made by ``make_engine``, in this process or in the one that it was forked from.
    """

    def __init__(self, options: dict[str, Any], channel: socket.socket, engine: Engine) -> None:
        self.options = options
        self.channel = channel
        self.facts = FactFile(options["facts"])
        self.engine = engine
        self.seat = self.engine.seat
        self.elector = Elector(self.seat, self._work, clock=SystemClock(), heartbeat=options["heartbeat"])
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.term: Term | None = None

    async def run(self) -> None:
        logging.basicConfig(level=logging.INFO, handlers=[_ToFacts(self.facts)], force=True)
        for name, arguments in self.options["before"]:
            getattr(deeds, name)(self, **arguments)
        try:
            self.engine.check()
            await self.seat.open()
        except ConfigurationError as error:
            self.facts.write("refused", text=f"{type(error).__name__}: {error}")
            return
        life = asyncio.create_task(self.elector.run())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.elector.stop)
        orders = asyncio.create_task(self._obey())
        await asyncio.wait([life])
        await self.seat.close()
        life.result()
        self.facts.write("stopped")
        orders.cancel()

    @contextlib.asynccontextmanager
    async def _work(self, term: Term, lost: asyncio.Event) -> AsyncIterator[None]:
        self.term = term
        self.facts.write("begin", term=term.number)
        ticking = asyncio.create_task(self._tick(term.number))
        try:
            yield
        finally:
            await self.may_end.wait()  # as a job in a thread would keep the drain waiting
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)
            self.facts.write("end", term=term.number, text="lost" if lost.is_set() else "resigned")

    async def _tick(self, term: int) -> None:
        while True:
            self.facts.write("tick", term=term)
            await asyncio.sleep(TICK)

    async def _obey(self) -> None:
        reader, writer = await asyncio.open_connection(sock=self.channel)
        while order := await reader.readline():
            name, arguments = json.loads(order)
            try:
                result = getattr(deeds, name)(self, **arguments)
                answer = {"result": await result if inspect.isawaitable(result) else result}
            except Exception:
                answer = {"error": traceback.format_exc()}
            writer.write(json.dumps(answer).encode() + b"\n")
        os._exit(1)  # the test is gone


def make_engine(options: dict[str, Any]) -> Engine:
    """As an ``Election`` makes it in its constructor: without I/O."""
    timing = {name: options[name] for name in ("heartbeat", "safety_poll", "fence_after")}
    return open_engine(options["pool"], **timing, clock=SystemClock())


class _ToFacts(logging.Handler):
    def __init__(self, facts: FactFile) -> None:
        super().__init__()
        self._facts = facts

    def emit(self, record: logging.LogRecord) -> None:
        self._facts.write("log", text=f"{record.levelname} {self.format(record)}")


def _live(options: dict[str, Any], channel: socket.socket) -> None:
    """The life of a forked worker; does not return."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    status = 1
    try:
        assert channel.recv(1) == b"!"
        os.chdir(options["cwd"])
        asyncio.run(Worker(options, channel, _preloaded.get(options["pool"]) or make_engine(options)).run())
        status = 0
    except BaseException:
        FactFile(options["facts"]).write("crash", text=traceback.format_exc())
    finally:
        os._exit(status)


def nurse(control: socket.socket, live: Callable[[dict[str, Any], socket.socket], None]) -> None:
    """Fork a process that does ``live(order, channel)`` for each order, until the test hangs up."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies, unless they are asked for
    gc.freeze()
    while True:
        request, descriptors, *_ = socket.recv_fds(control, 65536, 1)
        if not request:
            return
        order = json.loads(request)
        if "zombies" in order:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL if order["zombies"] else signal.SIG_IGN)
            with contextlib.suppress(ChildProcessError):
                while not order["zombies"] and os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            control.send(b"0")
            continue
        if order.get("preload") and order["pool"] not in _preloaded:
            _preloaded[order["pool"]] = make_engine(order)
        pid = os.fork()
        if pid == 0:
            control.close()
            live(order, socket.socket(fileno=descriptors[0]))
        os.close(descriptors[0])
        control.send(str(pid).encode())


_preloaded: dict[str, Engine] = {}
"""As with gunicorn --preload: made once, forked many times."""


if __name__ == "__main__":
    nurse(socket.socket(fileno=int(sys.argv[1])), _live)
