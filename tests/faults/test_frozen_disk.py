"""A disk that stands still for a while, as for a backup: HTTP is answered, no leader is fenced, no tick is lost
(P8).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.support.disk import Disk
from tests.support.pool import POLL, Pool
from tests.support.waiting import until

FENCE_AFTER_S = 2.0

FROZEN_S = 3 * FENCE_AFTER_S


@pytest.mark.timeout(180)
def test_p8_pitfall_48_a_frozen_disk_stops_no_worker_and_ends_nobody(new_pool: Callable[..., Pool], disk: Disk) -> None:
    pool = new_pool(pool=disk.path / "pool", environment={"ELECTION_FENCE_AFTER": str(FENCE_AFTER_S)}).start()
    before = pool.settled()
    slowest, told = 0.0, False
    with disk.frozen():
        end = time.monotonic() + FROZEN_S
        while (began := time.monotonic()) < end:
            answer = pool.get("/healthz")
            slowest = max(slowest, time.monotonic() - began)
            assert answer is not None and answer.status_code == 200
            seen = pool.get("/leader")
            told = told or (seen is not None and "has not answered for" in (seen.json()["problem"] or ""))
            time.sleep(POLL)
    assert slowest < FROZEN_S / 4, "the event loops stood still"
    assert told, "/leader says why no job runs"
    ran = len(pool.facts().of("begin", "tick"))
    until(lambda: len(pool.facts().of("begin", "tick")) > ran, what="the job goes on")
    after = pool.settled()
    assert (after["leader"]["pid"], after["leader"]["term"]) == (before["leader"]["pid"], before["leader"]["term"])
    assert {worker["pid"] for worker in after["workers"]} == {worker["pid"] for worker in before["workers"]}
    pool.stop()
    code, said = pool.verify()
    assert code == 0, said
