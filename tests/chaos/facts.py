"""Facts as the workers of a chaos run leave them: an append-only file of JSON lines.

Like ``tests/support/facts.py``, but on the clock since boot, which the ledger's terms are written down by as well, and
in whole nanoseconds: facts, samples, faults and terms can be ordered against each other without a conversion.
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
    """Append a line: one write, which O_APPEND keeps whole whoever else writes."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, json.dumps(line).encode() + b"\n")
    finally:
        os.close(descriptor)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All lines, as they were written; none if nobody has written yet."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line] if path.exists() else []


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that code of a worker saw itself do.

    event: ``begin`` and ``end`` of a job's function; ``leading``, every so often while a ``while_leading`` task runs;
    ``order``, when the worker does what it was ordered to. ``at`` is taken before the line is written.
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
