"""A client of the server, for one process and one event loop; what goes wrong, in words."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.connection import ConnectionPool
from redis.exceptions import NoScriptError, RedisError, ResponseError

from election.core.errors import ElectionError

from .address import OPTIONS, Address
from .scripts import Script

_INHERITED: list[object] = []
"""A parent's clients, in its forked child: they may not be used there, nor closed."""

PATIENCE_MS = 1500
"""Milliseconds for the disk and the replicas to have a write: less than an answer may take."""

_KEEPALIVE = {
    getattr(socket, name): value
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
}
"""A waiting connection notices within half a minute that its server has vanished; the kernel looks, we sleep."""

_WAYS_OUT = {
    "ReadOnlyError": "this server is a replica: name its master",
    "BusyLoadingError": "it goes on by itself",
    "OutOfMemoryError": "raise maxmemory, or shorten the retention",
    "NoPermissionError": "docs/engines/redis.md has the ACL",
    "MovedError": "in a Redis Cluster, name the node that has the pool's slot",
    "MISCONF": "free some space on the server's disk; it goes on by itself",
}
"""By the driver's class for what the server says, or by its first word where there is no class; its own words say the
rest."""

_CLOSED = "handler is closed"
"""uvloop's message when a connection that was reset is written to."""

_REFUSALS = re.compile(r"\b(STALE|BEGUN|UNKNOWN|CHANGED) (\w+)")


class RefusedError(ElectionError):
    """A script has refused all of it, for a reason that has a name: ``STALE``, ``BEGUN``, ``UNKNOWN``, ``CHANGED``."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"{name} {what}")
        self.name = name
        self.what = what


class Link:
    """Runs scripts in the server.

    error: what is raised when the server cannot be asked, or refuses. durable: whether what is written counts only when
    the disk has it, and as many replicas as ``min-replicas-to-write`` says.
    """

    def __init__(self, address: Address, error: type[ElectionError], *, durable: bool = False) -> None:
        self._address = address
        self._error = error
        self._durable = durable
        self._waits: list[tuple[Any, ...]] | None = None
        self._client: Redis | None = None
        self._owner: tuple[int, asyncio.AbstractEventLoop] | None = None

    @property
    def client(self) -> Redis:
        """The client of this process and its event loop."""
        owner = os.getpid(), asyncio.get_running_loop()
        if self._client is None or self._owner != owner:
            if self._client is not None:
                _INHERITED.append(self._client)
            options = {**OPTIONS, "socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
            if self._address.url.startswith("unix:"):
                options = OPTIONS
            self._client = Redis(connection_pool=ConnectionPool.from_url(self._address.url, **options))
            self._owner = owner
        return self._client

    async def close(self) -> None:
        """Close the connections, unless they are a parent's or another loop's."""
        client, self._client = self._client, None
        if client is None:
            return
        if self._owner != (os.getpid(), asyncio.get_running_loop()):
            _INHERITED.append(client)
            return
        with contextlib.suppress(RedisError, OSError):
            await client.aclose()
            await client.connection_pool.aclose()

    async def run(self, script: Script, *arguments: Any) -> Any:
        """Run a script; its first argument, the keys' prefix, is given here. Raises ``error``."""
        with self.describe_error():
            call = (1, self._address.prefix + "term", self._address.prefix, *arguments)
            try:
                return await self.client.execute_command("EVALSHA", script.sha, *call)
            except NoScriptError:
                return await self.client.execute_command("EVAL", script.text, *call)

    async def write(self, script: Script, *arguments: Any, then: Script | None = None) -> Any:
        """The same for what must last: it counts only when whoever has to have it has it.

        then: another script, run in the same moment; its answer is given in place of the first one's.
        """
        if not self._durable and then is None:
            return await self.run(script, *arguments)
        waits = await self._durability() if self._durable else []
        with self.describe_error():
            for scripts in (False, True):
                async with self.client.pipeline(transaction=then is not None) as pipe:
                    self._queue(pipe, script, scripts, arguments)
                    if then is not None:
                        self._queue(pipe, then, scripts, ())
                    else:
                        for wait in waits:
                            pipe.execute_command(*wait)
                    answers = await pipe.execute(raise_on_error=False)
                if any(isinstance(answer, NoScriptError) for answer in answers):
                    continue
                for answer in answers:
                    if isinstance(answer, Exception):
                        raise answer
                if then is not None:
                    return answers[-1]
                self._check(waits, answers[1:])
                return answers[0]
        raise self._error(f"{self._address.pool}: the server does not keep scripts")

    def _queue(self, pipe: Pipeline, script: Script, whole: bool, arguments: Iterable[Any]) -> None:
        call = (1, self._address.prefix + "term", self._address.prefix, *arguments)
        pipe.execute_command(*(("EVAL", script.text) if whole else ("EVALSHA", script.sha)), *call)

    async def _durability(self) -> list[tuple[Any, ...]]:
        if self._waits is None:
            found = await self.read("CONFIG", "GET", "min-replicas-to-write")
            replicas = int(pairs(found).get("min-replicas-to-write", 0))
            fsync = pairs(await self.read("CONFIG", "GET", "appendfsync")).get("appendfsync")
            self._waits = [("WAIT", replicas, PATIENCE_MS)] if replicas else []
            if fsync != "always":
                self._waits.append(("WAITAOF", 1, 0, PATIENCE_MS))
        return self._waits

    def _check(self, waits: Iterable[tuple[Any, ...]], answers: Iterable[Any]) -> None:
        for (command, wanted, *_), answer in zip(waits, answers, strict=True):
            got = answer[0] if isinstance(answer, list | tuple) else answer
            if int(got) < wanted:
                who = "the disk has" if command == "WAITAOF" else f"{got} of {wanted} replicas have"
                raise self._error(f"{self._address.pool}: it was written, but {who} not said so in time")

    async def read(self, *command: Any) -> Any:
        """One command. Raises ``error``."""
        with self.describe_error():
            return await self.client.execute_command(*command)

    @asynccontextmanager
    async def together(self, *, in_one_moment: bool = False) -> AsyncIterator[Pipeline]:
        """Commands that are sent together. Raises ``error``."""
        with self.describe_error():
            async with self.client.pipeline(transaction=in_one_moment) as pipe:
                yield pipe

    def told(self, error: Exception) -> str:
        """The error, with the server that it came from."""
        return f"{self._address.pool}: {words(error)}"

    @contextlib.contextmanager
    def describe_error(self) -> Iterator[None]:
        """Turn the driver's errors into ours; a script's refusals are values to whoever calls it."""
        try:
            with _cancelled_in_the_end():
                yield
        except (RedisError, OSError, TimeoutError, RuntimeError, AttributeError) as error:
            if isinstance(error, RuntimeError | AttributeError) and not _is_closed_transport(error):
                raise
            if isinstance(error, ResponseError) and (refusal := _REFUSALS.search(str(error))):
                raise RefusedError(refusal[1], refusal[2]) from error
            raise self._error(self.told(error)) from error


def _is_closed_transport(error: RuntimeError | AttributeError) -> bool:
    """Whether it is the error of a loop that was asked to write to a connection that it had closed after a reset.

    That of uvloop is a ``RuntimeError``; asyncio's from Python 3.12 has forgotten its loop, and raises an
    ``AttributeError`` (cpython's ``selector_events.py``, ``writelines``).
    """
    if isinstance(error, AttributeError):
        return error.name == "_add_writer" and error.obj is None
    return _CLOSED in str(error)


@contextlib.contextmanager
def _cancelled_in_the_end() -> Iterator[None]:
    """Whoever is cancelled within is so at the end at the latest. The driver sends in ``asyncio.wait_for``, and that of
    Python 3.11 forgets a cancellation that comes as its work is done: a heartbeat would go on for ever."""
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    try:
        yield
    finally:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError


def words(error: Exception) -> str:
    """The error, with the way out where there is one."""
    text = str(error) or f"no answer ({type(error).__name__})"
    way_out = _WAYS_OUT.get(type(error).__name__) or _WAYS_OUT.get(text.partition(" ")[0])
    return f"{text}; {way_out}" if way_out else text


def pairs(found: Any) -> dict[str, Any]:
    """A reply of names and values."""
    return dict(found) if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))
