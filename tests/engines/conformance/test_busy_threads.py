"""P6: an election needs none of the application's threads, nor does a driver that resolves a host name."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from election import Election
from tests.engines.conformance.pool import Pool
from tests.support.waiting import until_async

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_pitfall_47_elected_and_resigned_while_the_applications_threads_are_busy(pool: Pool) -> None:
    released, taken = threading.Event(), threading.Event()

    def keep_busy() -> None:
        taken.set()
        released.wait()

    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    busy = asyncio.get_running_loop().run_in_executor(None, keep_busy)
    try:
        await until_async(taken.is_set, what="the only thread is busy")
        election = Election(pool.url.replace("127.0.0.1", "localhost"), heartbeat=0.05)
        async with election:
            await until_async(lambda: election.is_leader, what="this worker leads")
        assert not election.is_leader
        assert not busy.done()
    finally:
        released.set()
        await busy
