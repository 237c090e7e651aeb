"""An Election on an engine object: options that the engine already has, and a start that does not block the loop."""

from __future__ import annotations

import asyncio
import math
import threading
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from election import Election
from election.core.errors import ConfigurationError
from election.engines import Engine, open_engine
from election.engines.file.ledger import SqliteLedger
from election.schedule.ledger import PRUNE_INTERVAL_S
from election.testing import ManualClock
from tests.schedule.making import NOW
from tests.support.waiting import until_async


def engine_in(path: Path, **options: Any) -> Engine:
    return open_engine(path / "pool", **{"heartbeat": 0.2, "safety_poll": 0.4, **options})


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"ledger": "postgresql://127.0.0.1/test"}, "ledger="),
        ({"durable": True}, "durable="),
        ({"allow_network_fs": True}, "allow_network_fs="),
        ({"fence_after": 9.0}, "fence_after="),
        ({"heartbeat": 0.3}, "heartbeat="),
        ({"safety_poll": 2.0, "durable": True}, "durable=, safety_poll="),
    ],
)
def test_an_option_without_effect_is_refused(tmp_path: Path, options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{named} cannot be given .*open_engine"):
        Election(engine_in(tmp_path), **options)


def test_the_intervals_are_those_of_the_engine(tmp_path: Path) -> None:
    """So a limit that does not fit them is refused, and the same values once more are not."""
    engine = engine_in(tmp_path, heartbeat=2.0)
    with pytest.raises(ConfigurationError, match=r"stalled_after=3 .* at least two heartbeats"):
        Election(engine)
    Election(engine, stalled_after=5.0, heartbeat=2.0, safety_poll=0.4)


@pytest.mark.anyio
async def test_a_check_that_waits_does_not_block_the_loop(tmp_path: Path) -> None:
    begun, released = threading.Event(), threading.Event()
    engine = engine_in(tmp_path)

    def check() -> None:
        begun.set()
        released.wait()
        engine.check()

    election = Election(replace(engine, check=check))
    starting = asyncio.create_task(election.__aenter__())
    await until_async(begun.is_set, what="the check has begun")  # and the loop goes on
    assert not starting.done()
    released.set()
    await starting
    await election.__aexit__()


@pytest.mark.parametrize("retention", [30, timedelta(0), timedelta(days=-1), "30 days"])
def test_a_retention_that_is_no_time_is_refused(tmp_path: Path, retention: Any) -> None:
    """At the start: a minute later it would end the leader's term."""
    with pytest.raises(ConfigurationError, match="retention is a timedelta of more than 0, or None"):
        Election(tmp_path / "pool", retention=retention)


@pytest.mark.anyio
@pytest.mark.parametrize("retention", [timedelta(days=999_999), timedelta.max])
async def test_a_retention_longer_than_there_are_dates_keeps_everything(retention: timedelta) -> None:
    clock = ManualClock(NOW)
    ledger = SqliteLedger(":memory:", clock=clock)
    pruning = asyncio.create_task(ledger.keep_pruned(retention))
    await clock.advance(3 * PRUNE_INTERVAL_S)
    assert not pruning.done()
    pruning.cancel()
    await ledger.close()


@pytest.mark.parametrize("wrong", [math.nan, "0.5", -1, True])
@pytest.mark.parametrize(
    "name",
    ["heartbeat", "safety_poll", "stalled_after", "fence_after", "drain_timeout", "catch_up_limit", "max_threads"],
)
def test_what_is_no_number_is_refused(tmp_path: Path, name: str, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{name} is a (number of seconds|whole number), .* not {wrong!r}$"):
        Election(tmp_path / "pool", **{name: wrong})


def test_times_without_an_end_are_possible(tmp_path: Path) -> None:
    times: dict[str, Any] = dict.fromkeys(["safety_poll", "stalled_after", "fence_after", "drain_timeout"], math.inf)
    Election(tmp_path / "pool", **times)
    Election(tmp_path / "pool", heartbeat=Decimal("0.5"))  # type: ignore[arg-type]  # as settings are read


@pytest.mark.parametrize(
    ("name", "wrong"), [("scheduler_options", "UTC"), ("allowed_hosts", 3), ("allowed_hosts", [3])]
)
def test_what_is_no_collection_is_refused(tmp_path: Path, name: str, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{name} "):
        Election(tmp_path / "pool", **{name: wrong})
