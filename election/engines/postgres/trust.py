"""Until when a leader may believe in its seat without another word from the server."""

from __future__ import annotations

from election.core.clock import Clock

HEARTBEATS = 10
LEAST = 2.0
"""Seconds."""

MARGIN = 0.1
"""Of the limit: how much earlier the leader ceases to believe than others begin to."""


class Trust:
    """``limit``: seconds after a leader's last heartbeat before which nobody else leads, unless that one is known to be
    over. The leader counts from the moment at which it began that heartbeat, on its own monotonic clock."""

    def __init__(self, heartbeat: float, clock: Clock) -> None:
        self._clock = clock
        self.limit = max(LEAST, HEARTBEATS * heartbeat)
        self._until = float("-inf")

    def renew(self, began: float) -> None:
        """The server has answered what was asked at ``began``, by the monotonic clock."""
        self._until = began + self.limit * (1 - MARGIN)

    def left(self) -> float:
        """Seconds that are left; 0 when there are none."""
        return max(0.0, self._until - self._clock.monotonic())
