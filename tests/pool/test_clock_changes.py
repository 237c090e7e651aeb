"""A served pool through a night in which the clocks change, under libfaketime: each tick once, by the jobs' own
facts.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.pool import Pool
from tests.support.postgres_server import RunningPostgres
from tests.support.tools import skip_missing
from tests.support.waiting import until

BEFORE_S = 90
"""Seconds before the change at which the pool is started."""

KILLS = (-25, -0.5, 6)
"""Seconds from the change at which the leader is killed."""

AFTER_S = 20

SPRING, AUTUMN = (datetime(2027, month, day, 1, tzinfo=UTC) for month, day in ((3, 28), (10, 31)))
"""Both zones change at the same moment: Berlin 02:00 to 03:00 and back, London 01:00 to 02:00 and back."""


# By the rule of Debian's cron, computed by hand: seconds from the change at which each falls due.
FIXED = {
    SPRING: {"berlin_left_out": [0], "london_left_out": [0], "berlin_twice": [], "london_twice": [], "noon": []},
    AUTUMN: {"berlin_left_out": [], "london_left_out": [], "berlin_twice": [-5], "london_twice": [-5], "noon": []},
}


def faketime() -> str:
    """Path of libfaketime."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return str(found[0]) if found else skip_missing("libfaketime is not installed")


@pytest.mark.extended
def test_pitfall_45_the_clock_of_a_pool_is_put_forward_and_back(new_pool: Callable[..., Pool], tmp_path: Path) -> None:
    """Forward: what fell due on the way runs. Back: no tick runs twice, and the silence is told until it is over."""
    step = tmp_path / "step"
    environment = {
        "LD_PRELOAD": faketime(), "FAKETIME_TIMESTAMP_FILE": str(step), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip

    def put(seconds: int) -> None:
        new = step.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.rename(step)

    def dues() -> list[datetime]:
        return [datetime.fromisoformat(fact["due"]) for fact in pool.facts().lines if fact["event"] == "begin"]

    put(0)
    pool = new_pool(jobs="tick", environment=environment, workers=2).start()
    until(lambda: len(dues()) >= 2)
    put(45)
    until(lambda: dues()[-1] > datetime.now(UTC) + timedelta(seconds=44), what="it has caught up with what it owed")
    put(15)
    until(lambda: "the wall clock was ahead" in (pool.leader()["problem"] or ""), what="the silence is told")
    latest = max(dues())
    until(lambda: pool.leader()["problem"] is None and max(dues()) > latest, timeout=90, what="the job goes on")
    found = dues()
    assert len(set(found)) == len(found)
    code, told = pool.verify()
    assert code == 0, told
    assert pool.stop() == 0


@pytest.mark.extended
@pytest.mark.timeout(300)
@pytest.mark.parametrize("change", [SPRING, AUTUMN], ids=["spring", "autumn"])
def test_each_tick_of_the_night_has_one_run(
    new_pool: Callable[..., Pool], postgres_server: RunningPostgres, change: datetime
) -> None:
    """In two pools side by side, in a directory and in PostgreSQL, with three kills around the change of each."""
    ahead = (change - datetime.now(UTC)).total_seconds() - BEFORE_S
    environment = {"LD_PRELOAD": faketime(), "FAKETIME": f"{ahead:+.3f}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    jobs = ",".join(["berlin_seconds", "london_seconds", *FIXED[change]])
    urls = (None, postgres_server.url(pool=f"night{change:%m}"))
    pools = [new_pool(jobs=jobs, environment=environment, pool=url) for url in urls]
    for pool in pools:
        pool.launch()
    for pool in pools:
        pool.settled()

    def to_change() -> float:
        """Seconds since the change, by the pools' clock."""
        return time.time() + ahead - change.timestamp()

    assert to_change() < min(KILLS) - 5, "the machine is too slow: the pools started too late for this night"
    for moment in KILLS:
        time.sleep(max(0.0, moment - to_change()))  # the phase of a kill is part of the fault
        former = [pool.leader()["leader"]["pid"] for pool in pools]
        for pid in former:
            os.kill(pid, signal.SIGKILL)
        for pool, pid in zip(pools, former, strict=True):
            pool.leader(but=pid)
    until(lambda: to_change() > AFTER_S, timeout=AFTER_S + 30)
    for pool in pools:
        check_night(pool, change)
        code, told = pool.verify()
        assert code == 0, told
        looked_at = re.search(r"looked at (\d+) ticks", told)
        assert looked_at is not None and int(looked_at[1]) > AFTER_S, told
        assert pool.stop() == 0


def check_night(pool: Pool, change: datetime) -> None:
    """Recurring ticks followed elapsed time, and fixed ones the rule: each in the ledger, and run once."""
    ran = Counter((fact["job"], fact["due"]) for fact in pool.facts().lines if fact["event"] == "begin")
    assert set(ran.values()) == {1}, "a tick ran twice"
    due = {job: sorted(datetime.fromisoformat(at) for name, at in ran if name == job) for job, _ in ran}
    allowed = len(KILLS)  # a leader may be killed between a claim and the first line of the job's code
    for job in ("berlin_seconds", "london_seconds"):
        first = due[job][0]
        count = (due[job][-1] - first) // timedelta(seconds=2) + 1
        owed = [first + timedelta(seconds=2 * number) for number in range(count)]
        assert first.second % 2 == 0
        assert due[job][-1] > change + timedelta(seconds=AFTER_S - 10)
        assert set(due[job]) <= set(owed)
        assert len(owed) - len(due[job]) <= allowed
    rows = json.loads(pool.run_command("runs", "--json", "--limit", "1000").stdout)
    for job, expected in FIXED[change].items():
        moments = [
            (datetime.fromisoformat(row["due"]) - change).total_seconds() for row in rows if row["job_id"] == job
        ]
        assert moments == expected, f"{job} is due elsewhere than the rule says"
        assert [(at - change).total_seconds() for at in due.get(job, [])] in (expected, [])
