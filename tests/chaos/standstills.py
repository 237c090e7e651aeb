"""Standstills of the whole machine, in which no worker could act: noted by a thread that does nothing but sleep."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from .facts import now_ns

EVERY = 0.05
"""Seconds of each pause."""


@dataclass(frozen=True, slots=True)
class Standstill:
    """Time, in nanoseconds since boot, by which a pause took longer than it should."""

    begin: int
    end: int

    def within(self, begin: int, end: int) -> int:
        """Nanoseconds of it that lie between two times."""
        return max(0, min(end, self.end) - max(begin, self.begin))


class Watch:
    """Sleeps in a thread while the scope is open; ``found`` is what it overslept, oldest first."""

    def __init__(self) -> None:
        self.found: list[Standstill] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sleep, name="standstills")

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sleep(self) -> None:
        due = now_ns() + int(EVERY * 1e9)
        while not self._stop.wait(EVERY):
            now = now_ns()
            if now > due:
                self.found.append(Standstill(due, now))
            due = now + int(EVERY * 1e9)
