"""Turns of the event loop from a granted claim to the job's code: under load a turn takes milliseconds."""

from __future__ import annotations

import asyncio
import threading

import pytest

from election.core.clock import SystemClock
from tests.schedule.granting import GrantedRuns

pytestmark = pytest.mark.anyio


async def test_a_coroutine_begins_in_the_next_turn() -> None:
    began: list[bool] = []

    async def begins() -> None:
        began.append(True)

    runs = GrantedRuns(begins, SystemClock())
    runs.ask()
    await asyncio.sleep(0)
    assert not began, "it is granted now"
    await asyncio.sleep(0)
    assert began
    await runs.executor.wait()


async def test_a_plain_function_is_handed_to_its_thread_in_the_next_turn() -> None:
    goes_on = threading.Event()
    runs = GrantedRuns(goes_on.wait, SystemClock())
    runs.ask()
    await asyncio.sleep(0)
    assert list(runs.runner.in_threads()) == [], "it is granted now"
    await asyncio.sleep(0)
    try:
        assert list(runs.runner.in_threads()) == ["job"]
    finally:
        goes_on.set()
    await runs.executor.wait()
