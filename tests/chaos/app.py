"""Application of a chaos run: jobs of each kind that write facts, and a task that carries out orders.

The orders are files in ``$ORDERS``; see ``orders.py``.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio.to_thread
from fastapi import FastAPI

from election import Election, current_run
from tests.chaos.clocks import use_stepped_clock
from tests.chaos.facts import append, now_ns
from tests.chaos.kinds import JOBS
from tests.chaos.orders import accept

LOOK_EVERY = 0.05
"""Seconds between two polls for an order."""

SIGN_EVERY = 0.1
"""Seconds between two facts of the ``while_leading`` task: no term fits between them."""

FORKED_FOR = 3.0
"""Seconds that a forked child lives: long enough for its parent to die and be replaced meanwhile."""

EVERY_THREAD = 40
"""Threads that FastAPI has; the loop's executor has fewer."""

_WAITING: set[asyncio.Future[None]] = set()

use_stepped_clock(Path(os.environ["CLOCK"]))

election = Election(
    os.environ["ELECTION_POOL"],
    ledger=os.environ.get("LEDGER"),
    fence_after=float(os.environ["ELECTION_FENCE_AFTER"]),
)


def write_fact(event: str, **fields: object) -> None:
    append(os.environ["FACTS"], {"event": event, "at": now_ns(), "pid": os.getpid(), **fields})


@contextmanager
def facts(job: str) -> Iterator[None]:
    run = current_run()
    fields = {"job": job, "term": run.term, "due": run.due.isoformat(), "attempt": run.attempt}
    write_fact("begin", **fields)
    yield
    write_fact("end", **fields)


@election.scheduled_job("cron", id="each_second", second="*")
async def each_second() -> None:
    with facts("each_second"):
        await asyncio.sleep(0.05)


@election.scheduled_job("interval", id="quarter_second", seconds=JOBS["quarter_second"])
async def quarter_second() -> None:
    with facts("quarter_second"):
        pass


@election.scheduled_job("interval", id="in_a_thread", seconds=JOBS["in_a_thread"], rerun_interrupted=True)
def in_a_thread() -> None:
    with facts("in_a_thread"):
        time.sleep(0.4)


@election.while_leading
async def lead() -> None:
    while True:
        write_fact("leading", term=election.term)
        await asyncio.sleep(SIGN_EVERY)


async def obey() -> None:
    """Poll for orders until the worker ends."""
    directory = Path(os.environ["ORDERS"])
    while True:
        await asyncio.sleep(LOOK_EVERY)
        if (order := accept(directory, os.getpid())) is None:
            continue
        what, _, seconds = order[0].partition(" ")
        write_fact("order", what=what)
        if what == "fork":
            fork()
        order[1].unlink()  # the sender takes this as the execution
        carry_out(what, float(seconds or 0))


def fork() -> None:
    """Leave a child with all open files of its parent."""
    if os.fork() == 0:
        time.sleep(FORKED_FOR)
        os._exit(0)


def carry_out(what: str, seconds: float) -> None:
    if what == "block":  # blocks the event loop, like a long computation or a blocking call
        time.sleep(seconds)
    elif what == "threads":
        use_up_threads(seconds)
    elif what == "exit":  # like a crash in native code: nothing is cleaned up
        os._exit(1)


def use_up_threads(seconds: float) -> None:
    """Keep every thread of the loop's executor and of FastAPI busy for so many seconds."""
    for _ in range(EVERY_THREAD):
        asyncio.get_running_loop().run_in_executor(None, time.sleep, seconds)
        waiting = asyncio.ensure_future(anyio.to_thread.run_sync(time.sleep, seconds))
        _WAITING.add(waiting)
        waiting.add_done_callback(_WAITING.discard)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    obeying = asyncio.create_task(obey())
    try:
        async with election:
            yield
    finally:
        obeying.cancel()


app = FastAPI(lifespan=lifespan)
app.include_router(election.router)
