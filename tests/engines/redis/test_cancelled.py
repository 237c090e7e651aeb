"""A cancellation that the driver swallows takes effect all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from election.core.errors import SeatError
from election.engines.redis.address import address_of
from election.engines.redis.client import RedisClient

pytestmark = pytest.mark.anyio


class UnresponsiveServer:
    """A client that swallows a cancellation, as ``asyncio.wait_for`` of Python 3.11 may (cpython#86296)."""

    async def execute_command(self, *_: Any) -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "done"
        raise AssertionError("nobody cancelled it")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> RedisClient:
    monkeypatch.setattr(RedisClient, "driver", UnresponsiveServer())
    return RedisClient(address_of("redis://127.0.0.1:1/0"), SeatError)


async def cancelled(work: Callable[[], Any]) -> asyncio.Task[Any]:
    task = asyncio.ensure_future(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    return task


async def test_a_heartbeat_that_is_cancelled_ends(client: RedisClient) -> None:
    """P6: otherwise the end of a term would wait for it until the drain limit, and the process would keep the seat."""
    task = await cancelled(lambda: client.read("PING"))
    assert task.cancelled()


async def test_what_is_done_after_a_cancellation_is_done(client: RedisClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """P6: a cancelled task may still release the seat."""

    async def give_up() -> str:
        try:
            await asyncio.sleep(60)
        finally:
            monkeypatch.setattr(RedisClient, "driver", Quick())
            said.append(await client.read("PING"))

    said: list[str] = []
    task = await cancelled(give_up)
    assert task.cancelled()
    assert said == ["PONG"]


class Quick:
    async def execute_command(self, *_: Any) -> str:
        return "PONG"


async def test_a_time_limit_that_the_driver_keeps_to_itself_is_one(client: RedisClient) -> None:
    """P1: a leader trusts its lease for no longer than the limit, and may not wait beyond it."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await client.read("PING")
