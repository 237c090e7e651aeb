"""Facts that workers leave behind: an append-only file, a line for each begin and end of job code.

Times are CLOCK_MONOTONIC, the same for all processes of a machine, so that facts of different workers can be ordered.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any


def write_fact(event: str, **fields: Any) -> None:
    """Append a fact to ``$FACTS``: one write a line, which O_APPEND keeps whole."""
    line = json.dumps({"event": event, "at": time.monotonic(), "pid": os.getpid(), **fields}) + "\n"
    descriptor = os.open(os.environ["FACTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Facts:
    """All facts that were written so far, oldest first."""

    lines: list[dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> Facts:
        if not path.exists():
            return cls([])
        *whole, _ = path.read_bytes().split(b"\n")  # the last is empty, or about to be written
        return cls(sorted(map(json.loads, whole), key=lambda fact: fact["at"]))

    def of(self, event: str, job: str | None = None) -> list[dict[str, Any]]:
        return [fact for fact in self.lines if fact["event"] == event and job in {None, fact.get("job")}]

    def overlaps(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Pairs of facts that show job code of two terms at one instant (P1, P5); empty if that never was.

        A term's job code runs from its first fact to its last; terms must follow each other.
        """
        first: dict[int, dict[str, Any]] = {}
        last: dict[int, dict[str, Any]] = {}
        for fact in self.lines:
            if "term" in fact:
                first.setdefault(fact["term"], fact)
                last[fact["term"]] = fact
        terms = sorted(first)
        return [(last[one], first[other]) for one, other in pairwise(terms) if last[one]["at"] > first[other]["at"]]

    def run_twice(self, job: str) -> list[str]:
        """The due times for which the job's code began more than once (P3)."""
        return [due for due, times in Counter(fact["due"] for fact in self.of("begin", job)).items() if times > 1]
