"""A worker that does nothing by itself: its commands are the methods of its seat, and a few more."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
import traceback
from collections.abc import Callable
from typing import Any

from election.core import process
from election.core.errors import SeatError
from election.core.seat import Seat
from election.core.term import Standing
from tests.engines.conformance.engines import HEARTBEAT, engine_on
from tests.support.fork_server import follow


class Commands:
    """The seat's own methods, and a few more."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self._url = url
        self._options = options
        self._engine = engine_on(url, **options)
        self._seat: Seat = self._engine.seat
        self._vacancy: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._following: asyncio.Task[Any] | None = None

    async def open(self) -> None:
        self._engine.check()
        await self._seat.open()

    async def close(self) -> None:
        self._quiet()
        await self._seat.close()

    async def campaign(self) -> Any:
        return await self._seat.campaign()

    def follow(self) -> None:
        """Wait and campaign like an elector from now on, until it leads."""

        async def follow() -> Any:
            while (term := await self._seat.campaign()) is None:
                await self._seat.vacancy()
            return term

        self._following = asyncio.create_task(follow())

    async def led(self) -> Any:
        assert self._following is not None
        return await self._following

    def held(self) -> Any:
        return self._seat.held()

    def held_in_child(self) -> Any:
        return _in_child(lambda: None if self._seat.held() is None else "held")

    async def confirm(self, takeover_ms: float) -> None:
        await self._seat.confirm(takeover_ms)

    async def beat(self, problem: str | None) -> None:
        await self._seat.beat(problem)

    def beats(self) -> None:
        async def beat() -> None:
            while True:
                with contextlib.suppress(SeatError):  # like an elector, it goes on with heartbeats
                    await self._seat.beat()
                await asyncio.sleep(HEARTBEAT)

        self._beating = asyncio.create_task(beat())

    async def release(self, standing: str) -> None:
        self._quiet()
        await self._seat.release(Standing(standing))

    def block(self, seconds: float) -> None:
        """Block the event loop as soon as this is answered."""
        asyncio.get_running_loop().call_soon(time.sleep, seconds)

    def fork(self) -> int:
        """A child that does nothing, and outlives its parent."""
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
        return child

    async def terminate(self) -> None:
        """Take the seat from the leader by force."""
        record = (await self._seat.observe()).record
        assert record is not None
        assert self._engine.terminate is not None
        await self._engine.terminate(record)

    def release_in_child(self, standing: str) -> Any:
        return _in_child(lambda: _run_anew(self._seat.release(Standing(standing))))

    async def observe(self) -> Any:
        return await self._seat.observe()

    async def workers(self) -> Any:
        return await self._seat.workers()

    def waits(self) -> None:
        self._vacancy = asyncio.create_task(self._seat.vacancy())

    def woken(self) -> bool:
        return self._vacancy is not None and self._vacancy.done()

    async def vacancies(self, seconds: float) -> int:
        count, loop = 0, asyncio.get_running_loop()
        end = loop.time() + seconds
        while (left := end - loop.time()) > 0:
            try:
                await asyncio.wait_for(self._seat.vacancy(), left)
            except TimeoutError:
                break
            count += 1
        return count

    async def open_another(self) -> None:
        """Another seat on the same pool in this process."""
        await engine_on(self._url, **self._options).seat.open()

    def _quiet(self) -> None:
        if self._beating is not None:
            self._beating.cancel()


def _run_anew(awaitable: Any) -> None:
    """Run ``function`` in a forked child, on a new loop, because the parent's counts as running there."""
    asyncio.events._set_running_loop(None)
    asyncio.run(awaitable)


def _in_child(function: Callable[[], Any]) -> Any:
    """Result of ``function`` in a forked child; "failed" if it raises."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = function()
        except BaseException:
            traceback.print_exc()
            answer = "failed"
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        return json.load(pipe)


async def main(options: dict[str, Any], channel: socket.socket) -> None:
    """See ``tests.support.fork_server``."""
    timing = dict(options["options"])
    if timing.pop("elsewhere", False):
        process._surroundings = lambda: ("another boot", "pid:[1]")
    commands = Commands(options["url"], timing)
    await follow(channel, lambda name: getattr(commands, name))
    os._exit(1)  # the test has closed it
