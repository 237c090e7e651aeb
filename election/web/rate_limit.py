"""How often something may be asked for: token buckets in the memory of one worker, and never too many of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

MAX_KEYS = 1024
"""Buckets that are remembered; the one that was used least recently is forgotten for a new one."""


class RateLimit:
    """So many ``times`` at once for each key, and again so many within each ``per`` seconds.

    clock: gives monotonic seconds.
    """

    def __init__(self, times: int, *, per: float, clock: Callable[[], float]) -> None:
        self._times = times
        self._rate = times / per
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str = "") -> float | None:
        """Use it once. Returns None if that is allowed, else the seconds until it will be."""
        now = self._clock()
        left, since = self._buckets.pop(key, (float(self._times), now))
        left = min(float(self._times), left + (now - since) * self._rate)
        allowed = left >= 1
        self._buckets[key] = (left - allowed, now)
        if len(self._buckets) > MAX_KEYS:
            self._buckets.popitem(last=False)
        return None if allowed else (1 - left) / self._rate
