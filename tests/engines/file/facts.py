"""What workers wrote down while they worked, and whether it may have happened so.

A fact is a JSON line in an append-only file: when (CLOCK_MONOTONIC, one clock for all processes), which pid, what.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Fact:
    """``what``: begin, tick, end (of a term's work); killed (told by the test, just before); log; stopped."""

    t: float
    pid: int
    what: str
    term: int = 0
    text: str = ""


class FactFile:
    """Appends facts, and reads those that are there."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)

    def close(self) -> None:
        os.close(self._descriptor)

    def tell(self, what: str, *, pid: int | None = None, **more: Any) -> None:
        row = {"t": time.monotonic(), "pid": pid or os.getpid(), "what": what, **more}
        os.write(self._descriptor, json.dumps(row).encode() + b"\n")

    def read(self) -> list[Fact]:
        content = os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)
        whole = content[: content.rfind(b"\n") + 1]  # a line across two pages may be there in part
        return sorted((Fact(**json.loads(line)) for line in whole.splitlines()), key=lambda fact: fact.t)


def violations(facts: list[Fact]) -> list[str]:
    """What in this history breaks P1 (one leader at any instant) or P2 (terms only grow)."""
    found = []
    working: dict[int, int] = {}
    dying: dict[int, int] = {}
    last = 0
    for fact in facts:
        if fact.what == "begin":
            if working:
                found.append(f"term {fact.term} of {fact.pid} began while {working} worked, at {fact.t:.4f}")
            if fact.term <= last:
                found.append(f"term {fact.term} began after term {last}")
            working[fact.pid], last = fact.term, max(last, fact.term)
            dying.clear()  # whoever was killed is dead by now
        elif fact.what == "tick" and fact.term not in {working.get(fact.pid), dying.get(fact.pid)}:
            found.append(f"{fact.pid} worked for term {fact.term} outside of it, at {fact.t:.4f}")
        elif fact.what == "end":
            working.pop(fact.pid, None)
        elif fact.what == "killed" and fact.pid in working:
            dying[fact.pid] = working.pop(fact.pid)
    return found
