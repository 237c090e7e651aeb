"""JSON log of a served pool: each line an object, each election an event with its fields."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.pool import Pool


@pytest.mark.extended
def test_a_failover_can_be_read_from_the_log(new_pool: Callable[..., Pool]) -> None:
    pool = new_pool(jobs="tick,once", environment={"ELECTION_LOG_FORMAT": "json"}).start()
    killed = pool.leader()["leader"]["pid"]
    os.kill(killed, signal.SIGKILL)
    found = pool.leader(but=killed)
    pool.settled()
    pool.stop()

    lines: list[dict[str, Any]] = [json.loads(line) for line in pool.log.read_text().splitlines()]
    assert all({"ts", "level", "logger", "pid", "message"} <= line.keys() for line in lines)
    assert {line["logger"] for line in lines} >= {"election", "uvicorn.error"}
    ours = [line for line in lines if line["logger"] == "election"]
    assert all("event" in line for line in ours), "a line without an event"
    events = [line["event"] | {"by": line["pid"]} for line in ours if "term" in line["event"]]
    heirs = found["leader"]["pid"]
    told = [(event["event"], event["term"], event["by"]) for event in events if event["event"] != "tick_skipped"]
    assert [each for each in told if each[0] != "run_interrupted"] == [
        ("elected", 1, killed),
        ("took_over", 2, heirs),
        ("resigned", 2, heirs),
    ]
    (taken,) = [event for event in events if event["event"] == "took_over"]
    assert (taken["from_pid"], taken["pid"], taken["reason"]) == (killed, heirs, "died")
    assert taken["takeover_ms"] == found["last_takeover"]["takeover_ms"]
