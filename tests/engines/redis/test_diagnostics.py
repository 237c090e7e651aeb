"""Errors and warnings at a start, and the meaning of a URL."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from election import Election
from election.core.backend import SeatTiming
from election.core.checks import Severity
from election.core.clock import SystemClock
from election.core.errors import ConfigurationError, SeatError
from election.core.seat import Seat
from election.engines.engine import Engine
from election.engines.redis import diagnostics, redis_engine
from election.engines.redis.address import address_of
from election.engines.redis.backend import RedisBackend
from election.engines.redis.diagnostics import judge
from tests.support.lateness import lateness
from tests.support.ports import free_port
from tests.support.redis_server import LEAST, Server

GOOD = {"redis_version": "7.4.1", "role": "master", "maxmemory_policy": "noeviction", "aof_enabled": 1}


def engine(url: str, *, durable: bool = False) -> Engine:
    return redis_engine(url, timing=SeatTiming(0.5, 1.0), durable=durable, clock=SystemClock())


@pytest.fixture(autouse=True)
def no_blocked_loop() -> None:
    """In place of the fixture for all tests: there is no loop here."""


# --- URLs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "pool", "prefix"),
    [
        ("redis://db", "redis://db:6379/0?pool=election", "election:{election}:"),
        ("redis://db:7000/3?pool=shop", "redis://db:7000/3?pool=shop", "election:{shop}:"),
        ("rediss://me:s%2Fcret@db/0?ssl_cert_reqs=none", "rediss://db:6379/0?pool=election", "election:{election}:"),
        ("redis://:secret@db/?db=2", "redis://db:6379/2?pool=election", "election:{election}:"),
        (
            "redis+unix:///run/redis.sock?db=1",
            "redis+unix:///run/redis.sock?db=1&pool=election",
            "election:{election}:",
        ),
    ],
)
def test_the_pools_name_has_no_secrets(url: str, pool: str, prefix: str) -> None:
    address = address_of(url)
    assert (address.pool, address.prefix) == (pool, prefix)
    assert engine(url).pool == pool


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://", "names no server"),
        ("redis+unix://", "names no server"),
        ("redis://db:port/0", "cannot be read"),
        ("redis://db/shop", "no number of a database"),
        ("redis://db/0?pool=a}b", "use letters"),
        ("redis://db/0?pool=", "use letters"),
        ("redis://db/0?colour=red", "colour"),
        ("redis://db/0?socket_timeout=soon", "socket_timeout"),
    ],
)
def test_a_url_without_meaning_is_refused_at_once(url: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        engine(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://db:26379/0",
        "rediss-sentinel://user:pass@one:26379,two:26379/mymaster/0",
        "sentinel://db",
        "redis://user:p,ss@one:26379,two:26379/0",
    ],
)
def test_sentinels_are_refused_with_the_way_out(url: str) -> None:
    with pytest.raises(ConfigurationError, match="several: Redis Sentinel is not supported; name an address"):
        Election(url)


def test_a_comma_in_a_password_names_no_second_server() -> None:
    Election("redis://user:p,ss@one:6379/0")


# --- servers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("info", "settings", "durable", "grade", "said"),
    [
        ({}, {}, False, Severity.GOOD, "append-only file"),
        ({"redis_version": "6.0.9"}, {}, False, Severity.WRONG, "Redis 6.0.9"),
        ({"maxmemory_policy": "allkeys-lru"}, {}, False, Severity.WRONG, "noeviction"),
        ({"maxmemory_policy": "volatile-lru"}, {}, False, Severity.WRONG, "noeviction"),
        ({"redis_mode": "sentinel", "role": None}, {}, False, Severity.WRONG, "is a sentinel"),
        ({"role": "slave"}, {}, False, Severity.WARNING, "replica"),
        ({"aof_enabled": 0}, {"save": ""}, False, Severity.WARNING, "every term and claim"),
        ({"aof_enabled": 0}, {"save": "60 1"}, False, Severity.WARNING, "since the last snapshot"),
        ({"connected_slaves": 1}, {}, False, Severity.WARNING, "failover"),
        ({"connected_slaves": 1}, {"min-replicas-to-write": "1"}, False, Severity.WARNING, "failover"),
        ({"redis_version": "7.0.15"}, {"appendfsync": "everysec"}, True, Severity.WRONG, "appendfsync always"),
        ({"aof_enabled": 0}, {}, True, Severity.WRONG, "appendonly"),
    ],
)
def test_what_is_said_of_a_server(
    info: dict[str, Any], settings: dict[str, str], durable: bool, grade: Severity, said: str
) -> None:
    findings = list(judge("pool", {**GOOD, **info}, settings, durable=durable))
    assert [found for found in findings if found.grade is grade and said in f"{found.text} {found.advice}"]
    if grade is not Severity.WRONG:
        assert not [found for found in findings if found.grade is Severity.WRONG]


@pytest.mark.parametrize(
    ("info", "settings", "durable"),
    [
        ({}, {"appendfsync": "everysec"}, False),
        ({}, {"appendfsync": "everysec"}, True),
        ({"redis_version": "7.0.15"}, {"appendfsync": "always"}, True),
        ({"server_name": "valkey", "redis_version": "7.2.4", "valkey_version": "9.1.2"}, {}, True),
        ({"connected_slaves": 1}, {"min-replicas-to-write": "1"}, True),
    ],
)
def test_of_a_sound_server_nothing_is_said(info: dict[str, Any], settings: dict[str, str], durable: bool) -> None:
    findings = judge("pool", {**GOOD, **info}, settings, durable=durable)
    assert {found.grade for found in findings} == {Severity.GOOD}


def test_a_server_that_cannot_be_reached_fails_no_start(caplog: pytest.LogCaptureFixture) -> None:
    engine(f"redis://127.0.0.1:{free_port()}").check()
    assert "refused" in caplog.text


def test_a_server_that_goes_away_between_two_answers_fails_no_start(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ``INFO`` has arrived, and the connection is reset before its settings have."""

    class Resetting:
        def info(self) -> dict[str, Any]:
            return GOOD

        def execute_command(self, *_: str) -> object:
            raise redis.ConnectionError("Connection reset by peer")

        def close(self) -> None: ...

    monkeypatch.setattr(diagnostics, "_blocking_client", lambda _: Resetting())
    engine("redis://127.0.0.1:1/0").check()
    (record,) = caplog.records
    assert "Connection reset by peer" in record.getMessage()


def test_a_server_that_does_not_answer_fails_no_start_and_holds_it_up_for_seconds_only(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as silent, lateness(tmp_path) as late:
        began = time.monotonic()
        engine(f"redis://127.0.0.1:{silent.getsockname()[1]}/?socket_timeout=0.3").check()
        assert time.monotonic() - began < 3 + 3 * late()
    assert "imeout" in caplog.text


def test_passwords_and_privileges(new_server: Callable[..., Server]) -> None:
    """The ACL is the one of docs/engines/redis.md."""
    users = ["--user", "poor", "on", ">pass", "~*", "+ping", "--user", "least", "on", ">pass", "resetchannels", *LEAST]
    server = new_server("--requirepass", "secret", *users).start()
    where = server.patient_url.removeprefix("redis://")
    with pytest.raises(ConfigurationError, match=r"USER:PASSWORD@"):
        engine(server.patient_url).check()
    with pytest.raises(ConfigurationError, match=r"USER:PASSWORD@"):
        engine(f"redis://:wrong@{where}").check()
    with pytest.raises(ConfigurationError, match="ACL"):
        engine(f"redis://poor:pass@{where}").check()
    engine(f"redis://:secret@{where}").check()
    engine(f"redis://least:pass@{where}").check()


def test_p8_a_user_that_may_not_publish_leaves_no_leader_that_does_not_lead(server: Server) -> None:
    """A script is not rolled back: what it wrote before its error would stay."""
    server.ask("ACL", "SETUSER", "mute", "on", ">pass", "resetchannels", "~*", "+@all")
    where = server.url.removeprefix("redis://")

    async def campaign() -> None:
        clock = SystemClock()
        backend = RedisBackend(address_of(f"redis://mute:pass@{where}"), timing=SeatTiming(0.1, 0.5), clock=clock)
        seat = Seat(backend, clock=clock, safety_poll=0.5)
        await seat.open()
        try:
            with pytest.raises(SeatError, match=r"(?i)channel|perm"):
                await seat.campaign()
        finally:
            await seat.close()

    asyncio.run(campaign())
    with redis.Redis.from_url(server.url) as client:
        assert [key for key in client.keys("*") if key.endswith((b"lease", b"record", b"term"))] == []


def test_a_server_that_stands_still_is_no_configuration_error(new_server: Callable[..., Server]) -> None:
    server = new_server().start()
    os.kill(server.pid, signal.SIGSTOP)
    engine(f"{server.url}?socket_timeout=0.2").check()
