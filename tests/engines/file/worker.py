"""A worker without a web server: an elector on a file seat that writes facts and follows ``commands``."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator
from typing import Any

from election.core.clock import SystemClock
from election.core.elector import Elector
from election.core.errors import ConfigurationError
from election.core.term import Term
from election.core.term_context import TermContext
from election.engines import Engine, open_engine
from tests.engines.file import commands
from tests.support.facts import FactFile
from tests.support.fork_server import follow

TICK = 0.005


class Worker:
    """Take part in one pool until told to stop, or until the test closes the channel.

    options: pool, facts, heartbeat, safety_poll, fence_after; before: commands to follow first, as [name, arguments].
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
            getattr(commands, name)(self, **arguments)
        try:
            self.engine.check()
            await self.seat.open()
        except ConfigurationError as error:
            self.facts.write("refused", text=f"{type(error).__name__}: {error}")
            return
        life = asyncio.create_task(self.elector.run())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.elector.stop)
        following = asyncio.create_task(self._follow())
        await asyncio.wait([life])
        await self.seat.close()
        life.result()
        self.facts.write("stopped")
        following.cancel()

    @contextlib.asynccontextmanager
    async def _work(self, context: TermContext) -> AsyncIterator[None]:
        self.term = context.term
        self.facts.write("begin", term=context.term.number)
        ticking = asyncio.create_task(self._tick(context.term.number))
        try:
            yield
        finally:
            await self.may_end.wait()  # like a job in a thread that keeps the drain waiting
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)
            self.facts.write("end", term=context.term.number, text="lost" if context.lost.is_set() else "resigned")

    async def _tick(self, term: int) -> None:
        while True:
            self.facts.write("tick", term=term)
            await asyncio.sleep(TICK)

    async def _follow(self) -> None:
        await follow(self.channel, lambda name: functools.partial(getattr(commands, name), self))
        os._exit(1)  # the test has closed it


def make_engine(options: dict[str, Any]) -> Engine:
    """Made like in the constructor of an ``Election``: without I/O."""
    timing = {name: options[name] for name in ("heartbeat", "safety_poll", "fence_after")}
    return open_engine(options["pool"], **timing, clock=SystemClock())


class _ToFacts(logging.Handler):
    def __init__(self, facts: FactFile) -> None:
        super().__init__()
        self._facts = facts

    def emit(self, record: logging.LogRecord) -> None:
        self._facts.write("log", text=f"{record.levelname} {self.format(record)}")


async def main(options: dict[str, Any], channel: socket.socket) -> None:
    """See ``tests.support.fork_server``."""
    os.chdir(options["cwd"])
    await Worker(options, channel, _preloaded.get(options["pool"]) or make_engine(options)).run()


def preload(options: dict[str, Any]) -> None:
    """Make the engine of the pool once, for all workers that are forked."""
    if options["pool"] not in _preloaded:
        _preloaded[options["pool"]] = make_engine(options)


_preloaded: dict[str, Engine] = {}
