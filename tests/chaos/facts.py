"""Facts of the workers in a chaos run: an append-only file of JSON lines.

Like ``tests/support/facts.py``, but on the clock since boot, which the ledger uses for terms too, and in whole
nanoseconds: facts, samples, faults and terms can be ordered without a conversion.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any


def now_ns() -> int:
    """Nanoseconds since boot, the same for all processes of the machine."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def append(path: str | os.PathLike[str], line: dict[str, Any]) -> None:
    """Append a line in one write, which O_APPEND keeps whole."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, json.dumps(line).encode() + b"\n")
    finally:
        os.close(descriptor)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All lines, in the order of the writes; none if there are none yet."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line] if path.exists() else []


@dataclass(frozen=True, slots=True)
class Fact:
    """An action that a worker's code recorded of itself.

    event: ``begin`` and ``end`` of a job's function; ``leading``, repeatedly while a ``while_leading`` task runs;
    ``order``, when the worker carries out an order. ``at`` is taken before the line is written.
    """

    event: str
    at: int
    pid: int
    term: int | None = None
    job: str | None = None
    due: datetime | None = None
    attempt: int | None = None

    @classmethod
    def from_line(cls, line: dict[str, Any]) -> Fact:
        due = line.get("due")
        values = {name: line.get(name) for name in ("event", "at", "pid", "term", "job", "attempt")}
        return cls(**values, due=None if due is None else datetime.fromisoformat(due))

    @classmethod
    def read(cls, path: Path) -> list[Fact]:
        """Oldest first."""
        return in_order(map(cls.from_line, read_lines(path)))


def in_order(facts: Iterable[Fact]) -> list[Fact]:
    return sorted(facts, key=lambda fact: fact.at)
