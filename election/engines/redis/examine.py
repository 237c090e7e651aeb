"""The Redis engine's part of ``doctor``: the server's settings, and who leads. It changes nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError
from redis import Redis
from redis.exceptions import RedisError

from election.core.checks import CheckResult, Severity
from election.core.term import Standing

from . import ground
from .address import Address
from .ground import client_to_look
from .sight import RECORD

SILENT_AFTER = 5.0
"""Seconds without a heartbeat after which a leader is called silent, whatever the pool's own settings are."""


def examine(address: Address, *, durable: bool = False) -> Iterator[CheckResult]:
    """Everything there is to say, the ground first."""
    yield from ground.examine(address, durable=durable)
    with contextlib.closing(client_to_look(address)) as client, contextlib.suppress(RedisError, OSError):  # told above
        yield from _leader(client, address.prefix)


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
        text = "the lease has no end: somebody has tampered with it, and nobody else can be elected"
        yield CheckResult(Severity.WRONG, text, f"DEL {prefix}lease")


def _record(text: str, lease: Any, silent: float) -> CheckResult:
    try:
        record = RECORD.validate_json(text)
    except ValidationError:
        return CheckResult(Severity.WARNING, "the leader record cannot be understood", "the next leader replaces it")
    who = f"pid {record.holder.pid} on {record.holder.host}, term {record.term}"
    if record.standing is not Standing.LEADING:
        return CheckResult(Severity.WARNING, f"nobody leads: the last leader was {who}: {record.standing}", _START)
    if lease != record.seat_id:
        return CheckResult(Severity.WARNING, f"nobody leads: the lease of the last leader ({who}) has run out", _START)
    if silent > SILENT_AFTER:
        text = f"the leader ({who}) has given no sign of life for {silent:.0f} s"
        return CheckResult(Severity.WARNING, text, "is its event loop blocked? Its log tells")
    return CheckResult(Severity.GOOD, f"{who}, leads, and holds the lease")


_START = "if workers run, one of them leads within seconds, or its log and /leader say why not; else start the pool"
