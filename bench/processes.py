"""Resources used by a process, read from ``/proc``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Reading:
    """One process at one moment; the first two only grow. rss, uss: bytes; uss is unshared memory."""

    cpu_s: float
    switches: int
    rss: int
    uss: int
    descriptors: int
    threads: int


def cpu_s(pid: int) -> float:
    """Processor time of a process's threads, to the nanosecond.

    A tick of ``/proc/<pid>/stat`` is as long as the processor time of a follower in ten seconds.
    """
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9


def read(pid: int) -> Reading:
    status = "".join((task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir())
    switches = sum(map(int, re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.MULTILINE)))
    process = psutil.Process(pid)
    memory = process.memory_full_info()
    return Reading(cpu_s(pid), switches, memory.rss, memory.uss, process.num_fds(), process.num_threads())
