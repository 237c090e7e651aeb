"""P7: cost of workers while nothing happens."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.costs.conftest import Start, opened
from tests.support.waiting import until

pytestmark = [
    pytest.mark.extended,
    pytest.mark.skipif(sys.platform != "linux", reason="/proc is looked at"),
]

WINDOWS, SECONDS = 4, 5
"""The calmest window counts: a busy machine adds wake-ups, and takes none away."""

FOLLOWER = 4.5
"""Wake-ups a second: it reads the heartbeat each second, and polls the seat after 0.8 s to 1.2 s, whichever is
first. Each time it wakes its thread for files, which wakes it in turn.
"""

LEADER = 80
"""The same: two heartbeats, and two polls of the ledger, each in a thread. If both come at the same time, the two
threads pass the interpreter's lock to each other at each system call: 60 in place of 15.
"""


def switches(pid: int) -> int:
    """Number of voluntary context switches of a process's threads, which equals the number of wake-ups."""
    found = ""
    for path in Path(f"/proc/{pid}/task").glob("*/status"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended meanwhile
            found += path.read_text()
    return sum(map(int, re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", found, re.MULTILINE)))


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def test_wake_ups(leader: subprocess.Popen[bytes], start: Start) -> None:
    """A follower is woken by its safety poll and nothing else, has a thread for its files, and no ledger; a leader
    is never busy.
    """
    led, follower = leader.pid, start().pid
    until(lambda: "pidfd" in opened(follower), what="the follower watches the leader")
    of_follower, of_leader = [], []
    for _ in range(WINDOWS):
        began, before = time.monotonic(), (switches(follower), switches(led))
        time.sleep(SECONDS)
        took = time.monotonic() - began
        of_follower.append((switches(follower) - before[0]) / took)
        of_leader.append((switches(led) - before[1]) / took)
    assert min(of_follower) < FOLLOWER, of_follower
    assert min(of_leader) < LEADER, of_leader
    assert threads(follower) == 2
    assert "ledger" not in opened(follower)
