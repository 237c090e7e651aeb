"""Sessions in trouble: no thread for a new one, a cancelled test of the seat's, a fork without descriptors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from election.core.backend import SeatTiming, Worker
from election.core.clock import SystemClock
from election.core.process import current_process
from election.engines.postgres import monitor as monitors
from election.engines.postgres.address import parse
from election.engines.postgres.monitor import PoolMonitor
from election.engines.postgres.preflight import Preflight
from tests.support.logs import logged
from tests.support.waiting import until_async

BOUND_S = 30.0
"""Longer than a busy machine stands still, and far shorter than for ever."""


def monitor_of(url: str) -> PoolMonitor:
    address = parse(url)
    timing = SeatTiming(heartbeat=0.5, safety_poll=0.1)
    return PoolMonitor(address, Preflight(address), timing=timing, clock=SystemClock(), own_session=lambda: 0)


@pytest.mark.anyio
async def test_p8_a_monitor_without_a_thread_goes_on_when_there_is_one(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(function: Callable[[], object]) -> asyncio.Future[Any]:
        raise RuntimeError("can't start new thread")

    monitor = monitor_of(url)
    with caplog.at_level(logging.ERROR), monkeypatch.context() as patched:
        patched.setattr(monitors, "run_in_thread", none)
        monitor.open(Worker(current_process(), datetime.now(UTC)))
        await until_async(lambda: len(logged(caplog, "monitor_crashed")) > 1, timeout=BOUND_S, what="it tries again")
        assert "can't start new thread" in str(monitor.trouble)
    try:
        await until_async(lambda: monitor.refreshed_at > 0, timeout=BOUND_S, what="the monitor reads the pool")
        assert monitor.trouble is None
    finally:
        await monitor.close()
