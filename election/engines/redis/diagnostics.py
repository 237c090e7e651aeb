"""Diagnostics of the Redis engine for start and ``doctor``: the server's settings, and the leader. Read only.

An evicted claim could be given again (P3), so a policy that evicts is refused. Data that is lost when a server without
persistence restarts, or when an asynchronous replica takes over, is reported and left to the operator.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError
from redis.retry import Retry

from election.core.checks import START, CheckResult, Severity
from election.core.errors import ConfigurationError
from election.core.events import named
from election.core.logs import log
from election.core.term import Standing
from election.engines.engine import NO_SENTINELS

from .address import ANY_TEXT, Address
from .client import describe, to_dict
from .monitor import RECORD

MIN_VERSION = (6, 2)
"""Oldest version of Redis that the engine was tested with."""

SILENT_AFTER_S = 5.0
"""Seconds without a heartbeat after which a leader is reported as silent, independent of the pool's settings."""

EVICTION_POLICY = (
    "maxmemory-policy is {}: an evicted claim could be given twice (P3); CONFIG SET maxmemory-policy noeviction"
)


def check(address: Address, *, durable: bool) -> None:
    """Raise ``ConfigurationError`` for settings that need an operator; ignore a server that cannot be reached.

    Blocks until the server answers, up to the URL's timeouts.
    """
    for finding in examine_server(address, durable=durable):
        if finding.grade is Severity.WRONG:
            raise ConfigurationError(f"{finding.text}; {finding.advice}" if finding.advice else finding.text)
        if finding.grade is Severity.WARNING:
            log.warning(
                "the server of the pool: %s: %s", finding.text, finding.advice, extra=named("server_unsuitable")
            )


def examine(address: Address, *, durable: bool = False) -> Iterator[CheckResult]:
    """All check results, the server first."""
    yield from examine_server(address, durable=durable)
    with contextlib.closing(_blocking_client(address)) as client, contextlib.suppress(RedisError, OSError):
        yield from _leader(client, address.prefix)  # an error was reported above


def examine_server(address: Address, *, durable: bool = False) -> Iterator[CheckResult]:
    """Check results of the server."""
    with contextlib.closing(_blocking_client(address)) as client:
        try:
            info: dict[str, Any] = client.info()
            settings = _settings(client)
        except AuthenticationError as error:
            yield CheckResult(Severity.WRONG, f"{address.pool}: {error}", "put USER:PASSWORD@ into the pool's URL")
        except NoPermissionError as error:
            yield CheckResult(
                Severity.WRONG, f"{address.pool}: {error}", "give the user the ACL of docs/engines/redis.md"
            )
        except (RedisError, OSError) as error:
            yield CheckResult(
                Severity.WARNING, f"{address.pool}: {describe(error)}", "nobody leads until it can be reached"
            )
        else:
            yield from judge(address.pool, info, settings, durable=durable)


def _blocking_client(address: Address) -> Redis:
    """Client that blocks up to the URL's timeouts."""
    return Redis.from_url(
        address.url,
        decode_responses=True,
        encoding_errors=ANY_TEXT,
        retry=Retry(NoBackoff(), 0),
        driver_info=None,
    )


def judge(pool: str, info: dict[str, Any], settings: dict[str, str], *, durable: bool) -> Iterator[CheckResult]:
    """Check results of a server with this ``INFO`` and these settings; unreadable settings are missing."""
    version = str(info.get("redis_version", "0"))
    kind = "Valkey" if info.get("server_name") == "valkey" else "Redis"
    shown = info.get("valkey_version", version)
    if _version(version) < MIN_VERSION:
        yield CheckResult(
            Severity.WRONG, f"{pool} is Redis {version}", "the engine needs Redis 6.2 or newer, or Valkey"
        )
    else:
        yield CheckResult(Severity.GOOD, f"{pool} is {kind} {shown}")
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        yield CheckResult(Severity.WRONG, f"{pool}: {EVICTION_POLICY.format(policy)}")
    if info.get("redis_mode") == "sentinel":
        yield CheckResult(Severity.WRONG, f"{pool} is a sentinel", NO_SENTINELS)
    elif info.get("role") != "master":
        yield CheckResult(Severity.WARNING, f"{pool} is a replica", "nobody can lead here: name its master")
    yield from _persistence(pool, info, settings)
    replicas = int(settings.get("min-replicas-to-write", 0))
    if int(info.get("connected_slaves", 0)) and not (replicas and durable):
        yield CheckResult(
            Severity.WARNING,
            f"{pool} has replicas, and does not wait for them: a failover can lose a term and its claims",
            "set min-replicas-to-write, and pass durable=True; or keep the ledger in PostgreSQL",
        )
    if durable and settings.get("appendfsync") != "always" and (kind == "Redis" and _version(version) < (7, 2)):
        yield CheckResult(
            Severity.WRONG,
            f"durable=True, but {pool} cannot confirm that a write is on its disk",
            "set appendonly yes and appendfsync always, or use Redis 7.2 or newer, or Valkey",
        )
    if durable and not info.get("aof_enabled"):
        yield CheckResult(Severity.WRONG, f"durable=True, but {pool} has no append-only file", "set appendonly yes")


def _persistence(pool: str, info: dict[str, Any], settings: dict[str, str]) -> Iterator[CheckResult]:
    if info.get("aof_enabled"):
        fsync = settings.get("appendfsync", "everysec")
        yield CheckResult(Severity.GOOD, f"it keeps an append-only file (appendfsync {fsync})")
        return
    snapshots = settings.get("save", "?") != ""
    lost = "what was claimed since the last snapshot" if snapshots else "every term and claim"
    yield CheckResult(Severity.WARNING, f"{pool} has no append-only file: a restart loses {lost}", "set appendonly yes")


def _settings(client: Redis) -> dict[str, str]:
    try:
        wanted = ("appendfsync", "save", "min-replicas-to-write")
        return {name: to_dict(client.execute_command("CONFIG", "GET", name)).get(name, "") for name in wanted}
    except ResponseError:  # a managed server does not show its settings
        return {}


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])


def _leader(client: Redis, prefix: str) -> Iterator[CheckResult]:
    with client.pipeline(transaction=True) as pipe:
        for name in ("record", "lease", "beat"):
            pipe.get(f"{prefix}{name}")
        pipe.pttl(f"{prefix}lease")
        pipe.time()
        text, lease, beat, left, now = pipe.execute()
    if not text:
        yield CheckResult(Severity.WARNING, "nobody has led yet", "the first worker to come leads")
    else:
        yield _record(text, lease or "", now[0] + now[1] / 1e6 - float(beat or 0) / 1000)
    if lease and left < 0:
        text = "the lease has no expiry, because somebody has changed it, and nobody else can be elected"
        yield CheckResult(Severity.WRONG, text, f"DEL {prefix}lease")


def _record(text: str, lease: Any, silent: float) -> CheckResult:
    try:
        record = RECORD.validate_json(text)
    except ValidationError:
        return CheckResult(Severity.WARNING, "the leader record cannot be parsed", "the next leader replaces it")
    who = f"pid {record.holder.pid} on {record.holder.host}, term {record.term}"
    if record.standing is not Standing.LEADING:
        return CheckResult(Severity.WARNING, f"nobody leads: the last leader was {who}: {record.standing}", START)
    if lease != record.seat_id:
        return CheckResult(Severity.WARNING, f"nobody leads: the lease of the last leader ({who}) has run out", START)
    if silent > SILENT_AFTER_S:
        text = f"the last heartbeat of the leader ({who}) was {silent:.0f} s ago"
        return CheckResult(Severity.WARNING, text, "its event loop may be blocked: see its log")
    return CheckResult(Severity.GOOD, f"{who}, leads, and holds the lease")
