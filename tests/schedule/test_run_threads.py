"""Threads that runs start are counted while a term of any pool is under way in the event loop (P5)."""

from __future__ import annotations

import asyncio
import threading

import pytest

from election.schedule.run_threads import RunThreads, count_threads_in, counting_threads
from tests.support.waiting import until_async

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("first_to_end", [0, 1])
async def test_p5_two_pools_of_one_process_count_until_the_last_term_ends(first_to_end: int) -> None:
    loop = asyncio.get_running_loop()
    own = loop.run_in_executor
    terms = [counting_threads(loop), counting_threads(loop)]
    for term in terms:
        term.__enter__()
    terms.pop(first_to_end).__exit__(None, None, None)
    threads, may_end = RunThreads(), threading.Event()

    async def run() -> None:
        count_threads_in(threads)
        await asyncio.to_thread(may_end.wait, 60)

    running = asyncio.create_task(run())
    await until_async(threads.running, what="the thread of the other pool is counted")
    may_end.set()
    await running
    await threads.ended()
    terms.pop().__exit__(None, None, None)
    assert loop.run_in_executor == own
