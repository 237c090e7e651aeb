"""What a server must be set to, so that the promises keep: it may forget nothing that it was told.

An evicted claim could be given again (P3), so a policy that evicts is refused. What is lost when a server without
persistence restarts, or when an asynchronous replica takes over, is said and left to the operator.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError
from redis.retry import Retry

from election.core.checks import CheckResult, Severity
from election.core.errors import ConfigurationError
from election.core.events import named

from .address import Address
from .link import pairs, words

log = logging.getLogger("election")

OLDEST = (6, 2)
"""The oldest version of Redis that the engine was tested with."""

EVICTS = "maxmemory-policy is {}: an evicted claim could be given twice (P3); CONFIG SET maxmemory-policy noeviction"


def check(address: Address, *, durable: bool) -> None:
    """Raises ``ConfigurationError`` for settings that no waiting mends; a server that cannot be reached is none.

    Blocks for as long as the server takes to answer, up to the URL's timeouts.
    """
    for finding in examine(address, durable=durable):
        if finding.grade is Severity.WRONG:
            raise ConfigurationError(f"{finding.text}; {finding.advice}" if finding.advice else finding.text)
        if finding.grade is Severity.WARNING:
            log.warning(
                "the server of the pool: %s: %s", finding.text, finding.advice, extra=named("server_unsuitable")
            )


def examine(address: Address, *, durable: bool = False) -> Iterator[CheckResult]:
    """Look at the server, and change nothing."""
    with contextlib.closing(client_to_look(address)) as client:
        try:
            info: dict[str, Any] = client.info()
        except AuthenticationError as error:
            yield CheckResult(Severity.WRONG, f"{address.pool}: {error}", "put USER:PASSWORD@ into the pool's URL")
        except NoPermissionError as error:
            yield CheckResult(
                Severity.WRONG, f"{address.pool}: {error}", "give the user the ACL of docs/engines/redis.md"
            )
        except (RedisError, OSError) as error:
            yield CheckResult(
                Severity.WARNING, f"{address.pool}: {words(error)}", "nobody leads until it can be reached"
            )
        else:
            yield from judge(address.pool, info, _settings(client), durable=durable)


def client_to_look(address: Address) -> Redis:
    """A client that blocks, for as long as the URL's timeouts."""
    return Redis.from_url(address.url, decode_responses=True, retry=Retry(NoBackoff(), 0), driver_info=None)


def judge(pool: str, info: dict[str, Any], settings: dict[str, str], *, durable: bool) -> Iterator[CheckResult]:
    """What is to be said of a server with that ``INFO`` and those settings; those that nobody may read are missing."""
    version = str(info.get("redis_version", "0"))
    kind = "Valkey" if info.get("server_name") == "valkey" else "Redis"
    shown = info.get("valkey_version", version)
    if _version(version) < OLDEST:
        yield CheckResult(
            Severity.WRONG, f"{pool} is Redis {version}", "the engine needs Redis 6.2 or newer, or Valkey"
        )
    else:
        yield CheckResult(Severity.GOOD, f"{pool} is {kind} {shown}")
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        yield CheckResult(Severity.WRONG, f"{pool}: {EVICTS.format(policy)}")
    if info.get("role") != "master":
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
            f"durable=True, but {pool} does not say when its disk has a write",
            "set appendonly yes and appendfsync always, or use Redis 7.2 or newer, or Valkey",
        )
    if durable and not info.get("aof_enabled"):
        yield CheckResult(Severity.WRONG, f"durable=True, but {pool} writes nothing down at once", "set appendonly yes")


def _persistence(pool: str, info: dict[str, Any], settings: dict[str, str]) -> Iterator[CheckResult]:
    if info.get("aof_enabled"):
        fsync = settings.get("appendfsync", "everysec")
        yield CheckResult(Severity.GOOD, f"it keeps an append-only file (appendfsync {fsync})")
        return
    snapshots = settings.get("save", "?") != ""
    lost = "what was claimed since the last snapshot" if snapshots else "every term and claim"
    yield CheckResult(
        Severity.WARNING, f"{pool} has no append-only file: a restart forgets {lost}", "set appendonly yes"
    )


def _settings(client: Redis) -> dict[str, str]:
    try:
        wanted = ("appendfsync", "save", "min-replicas-to-write")
        return {name: pairs(client.execute_command("CONFIG", "GET", name)).get(name, "") for name in wanted}
    except ResponseError:  # a rented server keeps its settings to itself
        return {}


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])
