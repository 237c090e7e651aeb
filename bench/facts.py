"""Facts of the measured processes: one line each, with the time of a clock that all of them share.

A line is ``<CLOCK_MONOTONIC in ns> <pid> <what> <more>``, written by one ``write`` to a file opened with O_APPEND.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path


def tell(what: str, more: object = "") -> None:
    """Add a fact to ``$BENCH_FACTS``."""
    descriptor = os.open(os.environ["BENCH_FACTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{time.monotonic_ns()} {os.getpid()} {what} {more}\n".encode())
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Fact:
    """``at``: nanoseconds on the monotonic clock."""

    at: int
    pid: int
    what: str
    more: str


class Reader:
    """Reads the facts in a file, each line once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = 0
        self._found: list[Fact] = []

    def __call__(self) -> list[Fact]:
        """All facts so far, in order."""
        if self._path.exists():
            with self._path.open() as file:
                file.seek(self._place)
                for line in file.readlines():
                    at, pid, what, more = line.rstrip("\n").split(" ", 3)
                    self._found.append(Fact(int(at), int(pid), what, more))
                self._place = file.tell()
            self._found.sort(key=lambda fact: fact.at)
        return self._found
