"""Facts of workers: an append-only file, a line for each begin and end of job code.

Times are CLOCK_MONOTONIC, the same for all processes of a machine, so that facts of different workers can be ordered.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from election.schedule.verify import Violation
from tests.support.judge import Fact, check_once, check_one_leader, in_order


def write_fact(event: str, **fields: Any) -> None:
    """Append a fact to ``$FACTS`` in one write, which O_APPEND keeps whole."""
    line = json.dumps({"event": event, "at": time.monotonic(), "pid": os.getpid(), **fields}) + "\n"
    descriptor = os.open(os.environ["FACTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Facts:
    """All facts so far, oldest first."""

    lines: list[dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> Facts:
        if not path.exists():
            return cls([])
        *whole, _ = path.read_bytes().split(b"\n")  # the last is empty, or is being written
        return cls(sorted(map(json.loads, whole), key=lambda fact: fact["at"]))

    def of(self, event: str, job: str | None = None) -> list[dict[str, Any]]:
        return [fact for fact in self.lines if fact["event"] == event and job in {None, fact.get("job")}]

    def overlaps(self) -> list[Violation]:
        """Ticks at which job code of two terms ran at the same time (P1, P5), from the first fact of each term to
        its last.
        """
        facts = [Fact(line["at"], line["pid"], line["event"], line["term"]) for line in self.lines if "term" in line]
        return list(check_one_leader(facts))

    def run_twice(self, job: str) -> list[Violation]:
        """Ticks whose job code began more than once (P3)."""
        begins = self.of("begin", job)
        return list(check_once([Fact(line["at"], line["pid"], "begin", job=job, due=line["due"]) for line in begins]))


class FactFile:
    """Facts for the judge, appended by any process and read by the test."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        self._facts: list[Fact] = []
        self._parsed = 0
        """Bytes of the file that ``_facts`` covers."""

    def close(self) -> None:
        os.close(self._descriptor)

    def write(self, event: str, *, pid: int | None = None, **more: Any) -> None:
        """Append a fact of this process, or of ``pid``, at the present time."""
        line = {"at": time.monotonic(), "pid": pid or os.getpid(), "event": event, **more}
        os.write(self._descriptor, json.dumps(line).encode() + b"\n")

    def read(self) -> list[Fact]:
        """All facts so far, oldest first."""
        content = os.pread(self._descriptor, os.fstat(self._descriptor).st_size - self._parsed, self._parsed)
        whole = content[: content.rfind(b"\n") + 1]  # a line across two pages may be visible in part
        self._parsed += len(whole)
        self._facts = in_order([*self._facts, *(Fact(**json.loads(line)) for line in whole.splitlines())])
        return list(self._facts)
