"""The engines, by the URLs of their pools."""

from __future__ import annotations

from typing import Any

from election.core.clock import SystemClock
from election.engines import Engine, open_engine

HEARTBEAT = 0.05
SAFETY_POLL = 0.2


def engine_on(url: str, **options: Any) -> Engine:
    """The engine for ``url`` in one worker, with shorter delays than by default."""
    timing: dict[str, Any] = {
        "heartbeat": HEARTBEAT,
        "safety_poll": SAFETY_POLL,
        "fence_after": None,
        "clock": SystemClock(),
    }
    return open_engine(url, **{**timing, **options})
