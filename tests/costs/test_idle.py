"""P7: cost of workers while nothing happens."""

from __future__ import annotations

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

SECONDS = 10

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
    found = "".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status"))
    return sum(map(int, re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", found, re.MULTILINE)))


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def test_wake_ups(leader: subprocess.Popen[bytes], start: Start) -> None:
    """A follower is woken by its safety poll and nothing else, has a thread for its files, and no ledger; a leader
    is never busy.
    """
    led, follower = leader.pid, start().pid
    until(lambda: "pidfd" in opened(follower), what="the follower watches the leader")
    began, before = time.monotonic(), (switches(follower), switches(led))
    time.sleep(SECONDS)
    took = time.monotonic() - began
    assert (switches(follower) - before[0]) / took < FOLLOWER
    assert (switches(led) - before[1]) / took < LEADER
    assert threads(follower) == 2
    assert "ledger" not in opened(follower)
