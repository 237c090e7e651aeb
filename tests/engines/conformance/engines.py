"""The engines, by the URLs of their pools."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

from election.core.clock import SystemClock
from election.engines import Engine, open_engine
from election.engines.redis.lease import lease_for

HEARTBEAT = 0.05
SAFETY_POLL = 0.2

PATIENCE_S = 6.0
"""Seconds for which a patient leader trusts its seat on a server, less a tenth: longer than a busy machine stands
still.
"""


@contextmanager
def patience() -> Iterator[None]:
    """Scope in which engines and elections are made whose leases last for ``PATIENCE_S`` at least.

    Their heartbeats are as frequent as without it. For tests in which nobody waits for the end of a lease.
    """

    def lease(heartbeat: float) -> float:
        return max(PATIENCE_S, lease_for(heartbeat))

    with (
        mock.patch("election.engines.redis.lease.lease_for", lease),
        mock.patch("election.engines.redis.backend.lease_for", lease),
        mock.patch("election.engines.postgres.trust.MIN_TRUST_S", PATIENCE_S),
    ):
        yield


def engine_on(url: str, *, patient: bool = False, **options: Any) -> Engine:
    """The engine for ``url`` in one worker, with shorter delays than by default. patient: see ``patience``."""
    timing: dict[str, Any] = {
        "heartbeat": HEARTBEAT,
        "safety_poll": SAFETY_POLL,
        "fence_after": None,
        "clock": SystemClock(),
    }
    with patience() if patient else nullcontext():
        return open_engine(url, **{**timing, **options})
