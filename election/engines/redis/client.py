"""Client of the server for one process and one event loop, with scripts, durability and translated errors."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import weakref
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import (
    BusyLoadingError,
    MasterDownError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from election.core.errors import ElectionError

from .address import OPTIONS, Address
from .resolving import make_connection_pool
from .scripts import Script

_INHERITED: list[object] = []
"""Clients of the parent in a forked child, kept because they may be neither used nor closed there."""

DURABILITY_TIMEOUT_MS = 1500
"""Time for the disk and the replicas to store a write: less than the timeout of an answer."""

_KEEPALIVE = {
    getattr(socket, name): value
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
}
"""TCP keep-alive: an idle connection detects within half a minute that its server has vanished."""

_WAYS_OUT = {
    "ReadOnlyError": "this server is a replica: name its master",
    "BusyLoadingError": "the pool goes on by itself",
    "OutOfMemoryError": "raise maxmemory, or shorten the retention",
    "NoPermissionError": "docs/engines/redis.md has the ACL",
    "MovedError": "in a Redis Cluster, name the node that has the pool's slot",
    "NOREPLICAS": "fewer replicas are connected than min-replicas-to-write asks for; the pool goes on by itself",
    "MISCONF": "free some space on the server's disk; the pool goes on by itself",
}
"""Advice by the driver's error class, or by the first word of the server's message where there is no class."""

_WRONG_SERVER_ERRORS = (ReadOnlyError, MasterDownError, BusyLoadingError)
_WRONG_SERVER = frozenset({"READONLY", "MASTERDOWN", "LOADING"})
"""Error codes of a server that is no master, or not ready; its name may now resolve to another server."""

_clients: weakref.WeakSet[RedisClient] = weakref.WeakSet()
"""Clients of this process."""

_CLOSED = "handler is closed"
"""uvloop's message when a connection that was reset is written to."""

_WRONG_TYPE = re.compile(
    r"WRONGTYPE (?!Operation)(.+?)(?:,? script: \w+.*)?$|\(\w+ (.+?)(?: [+(].*)?\) of pipeline.*WRONGTYPE", re.DOTALL
)
"""The key of another type: as ``call.lua`` names it, or the driver, of a pipeline."""

_REFUSAL = re.compile(r"\b(STALE|BEGUN|UNKNOWN|CHANGED) (\w+)")


class RefusedError(ElectionError):
    """A script refused a write; its name is ``STALE``, ``BEGUN``, ``UNKNOWN`` or ``CHANGED``."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"{name} {what}")
        self.name = name
        self.what = what


class RedisClient:
    """Runs commands and scripts in the server.

    Args:
        address: Server and keys of the pool.
        error: Type of the errors that are raised when the server cannot be reached, or refuses.
        durable: Whether a write counts only when the disk, and ``min-replicas-to-write`` replicas, have stored it.
    """

    def __init__(self, address: Address, error: type[ElectionError], *, durable: bool = False) -> None:
        self._address = address
        self._error = error
        self._durable = durable
        self._waits: list[tuple[Any, ...]] | None = None
        self._driver: Redis | None = None
        self._owner: tuple[int, asyncio.AbstractEventLoop] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        _clients.add(self)

    @property
    def driver(self) -> Redis:
        """The driver's client of this process and its event loop."""
        owner = os.getpid(), asyncio.get_running_loop()
        if self._driver is None or self._owner != owner:
            if self._driver is not None:
                _INHERITED.append(self._driver)
            options = {**OPTIONS, "socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
            if self._address.url.startswith("unix:"):
                options = OPTIONS
            self._driver = Redis(connection_pool=make_connection_pool(self._address.url, **options))
            self._owner = owner
        return self._driver

    async def close(self) -> None:
        """Close the connections, except those of a parent process or another loop."""
        client, self._driver = self._driver, None
        await asyncio.gather(*self._closing)
        if client is None:
            return
        if self._owner != (os.getpid(), asyncio.get_running_loop()):
            _INHERITED.append(client)
            return
        await _close(client)

    def _disconnect_all(self) -> None:
        """Close this process's connections to the server: after a failover they would stay with the former master."""
        for client in list(_clients):
            if client._address.url == self._address.url:
                client._disconnect()

    def _disconnect(self) -> None:
        driver, self._driver = self._driver, None
        if driver is None or self._owner != (os.getpid(), asyncio.get_running_loop()):
            return
        closing = asyncio.create_task(_close(driver), name="election disconnect")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def run(self, script: Script, *arguments: Any) -> Any:
        """Run a script with the keys' prefix as its first argument. Raises ``error``."""
        with self.translated_errors():
            call = (1, self._address.prefix + "term", self._address.prefix, *arguments)
            try:
                return await self.driver.execute_command("EVALSHA", script.sha, *call)
            except NoScriptError:
                return await self.driver.execute_command("EVAL", script.text, *call)

    async def write(self, script: Script, *arguments: Any, then: tuple[Any, ...] | None = None) -> Any:
        """Run a script that writes; with ``durable``, the write counts only when disk and replicas have stored it.

        Args:
            script: Script to run.
            arguments: Its arguments after the prefix.
            then: Another script and its arguments, in the same transaction, whose reply is returned instead.

        Raises:
            ElectionError: ``error``, if the server cannot be reached or durability was not confirmed in time.
        """
        if not self._durable and then is None:
            return await self.run(script, *arguments)
        waits = await self._durability() if self._durable else []
        with self.translated_errors():
            for scripts in (False, True):
                async with self.driver.pipeline(transaction=then is not None) as pipe:
                    self._queue(pipe, script, scripts, arguments)
                    if then is not None:
                        self._queue(pipe, then[0], scripts, then[1:])
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
            replicas = int(to_dict(found).get("min-replicas-to-write", 0))
            fsync = to_dict(await self.read("CONFIG", "GET", "appendfsync")).get("appendfsync")
            self._waits = [("WAIT", replicas, DURABILITY_TIMEOUT_MS)] if replicas else []
            if fsync != "always":
                self._waits.append(("WAITAOF", 1, 0, DURABILITY_TIMEOUT_MS))
        return self._waits

    def _check(self, waits: Iterable[tuple[Any, ...]], answers: Iterable[Any]) -> None:
        for (command, wanted, *_), answer in zip(waits, answers, strict=True):
            got = answer[0] if isinstance(answer, list | tuple) else answer
            if int(got) < wanted:
                who = "the disk has" if command == "WAITAOF" else f"{got} of {wanted} replicas have"
                raise self._error(f"{self._address.pool}: it was written, but {who} not confirmed it in time")

    async def read(self, *command: Any) -> Any:
        """Run one command. Raises ``error``."""
        with self.translated_errors():
            try:
                return await self.driver.execute_command(*command)
            except ResponseError as error:
                if str(error).startswith("WRONGTYPE"):
                    raise ResponseError(f"WRONGTYPE {command[1]}") from error
                raise

    @asynccontextmanager
    async def pipeline(self, *, transaction: bool = False) -> AsyncIterator[Pipeline]:
        """Pipeline of commands, with ``transaction`` as one transaction. Raises ``error``."""
        with self.translated_errors():
            async with self.driver.pipeline(transaction=transaction) as pipe:
                yield pipe

    @contextlib.contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Translate the driver's errors; a script's refusal becomes a ``RefusedError``."""
        try:
            with _raise_if_cancelled():
                yield
        except (RedisError, OSError, TimeoutError, RuntimeError, AttributeError) as error:
            if isinstance(error, RuntimeError | AttributeError) and not _is_closed_transport(error):
                raise
            if str(error).partition(" ")[0] in _WRONG_SERVER or isinstance(error, _WRONG_SERVER_ERRORS):
                self._disconnect_all()
            if isinstance(error, ResponseError) and (refusal := _REFUSAL.search(str(error))):
                raise RefusedError(refusal[1], refusal[2]) from error
            raise self._error(f"{self._address.pool}: {describe(error)}") from error


async def _close(driver: Redis) -> None:
    with contextlib.suppress(RedisError, OSError):
        await driver.aclose()
        await driver.connection_pool.aclose()


def _is_closed_transport(error: RuntimeError | AttributeError) -> bool:
    """Whether the error comes from a write to a connection that the event loop closed after a reset.

    uvloop raises a ``RuntimeError``; asyncio from Python 3.12 on has cleared the transport's loop, and raises an
    ``AttributeError`` (cpython's ``selector_events.py``, ``writelines``).
    """
    if isinstance(error, AttributeError):
        return error.name == "_add_writer" and error.obj is None
    return _CLOSED in str(error)


@contextlib.contextmanager
def _raise_if_cancelled() -> Iterator[None]:
    """Raise, at the end of the scope, a cancellation that was swallowed within it.

    The driver sends in ``asyncio.wait_for``, which in Python 3.11 swallows a cancellation that arrives as its work
    ends: a heartbeat would continue for ever.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    try:
        yield
    finally:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError


def describe(error: Exception) -> str:
    """Message of the error, with advice where there is any."""
    text = str(error) or f"no answer ({type(error).__name__})"
    if wrong := _WRONG_TYPE.search(text):
        return describe_wrong_type(wrong[1] or wrong[2])
    way_out = _WAYS_OUT.get(type(error).__name__) or _WAYS_OUT.get(text.partition(" ")[0])
    return f"{text}; {way_out}" if way_out else text


def describe_wrong_type(key: str) -> str:
    """Text about a key that is of another type than the pool keeps there."""
    return (
        f"the key {key} is not of the type that the pool keeps there, so somebody else has written it;"
        " rename it (RENAME), or delete it (DEL)"
    )


def to_dict(found: Any) -> dict[str, Any]:
    """Reply of alternating names and values as a dictionary."""
    return dict(found) if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))
