"""Power loss: only the synced state remains. A filesystem is shut down without a flush and mounted again.

Without ``durable``, about a second is lost at most; terms only grow in any case (P2, docs/pitfalls.md#37, #78).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime

import pytest

from tests.support.disk import Disk
from tests.support.pool import Pool
from tests.support.waiting import until

LOST_S = 2.5
"""Seconds that may be lost on a busy machine, in addition to the time of a sync on this disk."""


@pytest.mark.timeout(180)
def test_p2_p3_pitfall_78_a_power_cut_takes_about_a_second_of_a_young_pool(
    new_pool: Callable[..., Pool], disk: Disk
) -> None:
    pool = new_pool(pool=disk.path / "deep" / "er" / "pool", workers=2).start()
    term = pool.settled()["leader"]["term"]
    until(lambda: len(pool.facts().of("begin", "tick")) >= 3, what="the job runs, once a second")
    ran = len(pool.facts().of("begin", "tick"))
    longest_s = 0.0

    def has_gone_on() -> bool:
        nonlocal longest_s
        longest_s = max(longest_s, disk.sync_takes())
        return len(pool.facts().of("begin", "tick")) >= ran + 2 + LOST_S + 2 * longest_s

    until(has_gone_on, 120.0, what="it goes on for longer than may be lost", poll=0.25)
    lost_s = LOST_S + 2 * longest_s  # the log and the directory
    disk.cut()
    begun = datetime.fromisoformat(pool.facts().of("begin", "tick")[-1]["due"])
    pool.reap()
    disk.unmount()
    disk.mount()

    again = new_pool(pool=disk.path / "deep" / "er" / "pool", workers=2)
    code, said = again.verify()
    assert code == 0, said
    history = json.loads(again.run_command("runs", "--json").stdout)
    assert history, "the whole ledger was lost"
    latest = max(datetime.fromisoformat(run["due"]) for run in history)
    assert (begun - latest).total_seconds() < lost_s + 1.0
    again.start()
    assert again.settled()["leader"]["term"] > term
