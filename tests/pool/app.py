"""The application that the tests serve with run.py: like app/main.py, with jobs that leave facts."""

from __future__ import annotations

import asyncio
import ctypes
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from election import Election, current_run
from tests.support.facts import write_fact

election = Election(
    os.environ["ELECTION_POOL"],
    ledger=os.environ.get("ELECTION_TEST_LEDGER"),
    drain_timeout=float(os.environ.get("ELECTION_DRAIN_TIMEOUT", "10")),
    fence_after=float(os.environ.get("ELECTION_FENCE_AFTER", "0")) or None,
    durable="ELECTION_TEST_DURABLE" in os.environ,
)
wanted = set(os.environ.get("JOBS", "tick").split(","))


@contextmanager
def facts(job: str) -> Iterator[None]:
    run = current_run()
    fields = {"job": job, "term": run.term, "due": run.due.isoformat(), "attempt": run.attempt}
    write_fact("begin", **fields)
    yield
    write_fact("end", **fields)


async def tick() -> None:
    with facts("tick"):
        pass


async def every_second() -> None:
    with facts("every_second"):
        pass


async def coalescing() -> None:
    with facts("coalescing"):
        pass


async def once() -> None:
    with facts("once"):
        pass


async def held_for_five_terms() -> None:
    """Whatever ends one of these runs, it is not the job itself."""
    with facts("held_for_five_terms"):
        if current_run().term <= 5:
            await asyncio.Event().wait()


def two_seconds_in_a_thread() -> None:
    with facts("two_seconds_in_a_thread"):
        time.sleep(2)


def never_ends() -> None:
    with facts("never_ends"):
        threading.Event().wait()


async def blocks_the_loop() -> None:
    with facts("blocks_the_loop"):
        time.sleep(4)


async def hangs_in_a_call() -> None:
    """In the first term only, so that the pool recovers."""
    if current_run().term == 1:
        with facts("hangs_in_a_call"):
            time.sleep(3600)


async def hangs_with_the_gil() -> None:
    """As a C extension may that forgets to let others run: no thread of this interpreter moves any more."""
    if current_run().term == 1:
        with facts("hangs_with_the_gil"):
            ctypes.PyDLL(None).sleep(3600)


async def while_leading() -> None:
    write_fact("leading", term=election.term)
    await asyncio.Event().wait()


A_RUN_EACH = {"coalesce": False, "misfire_grace_time": None, "max_instances": 1000}
"""For a job whose every tick is to have a run, however long the machine stands still."""

SCHEDULE = {
    "tick": (tick, "cron", {"second": "*", **A_RUN_EACH}),
    "every_second": (every_second, "interval", {"seconds": 1, **A_RUN_EACH}),
    "coalescing": (coalescing, "cron", {"second": "*"}),
    "once": (once, "date", {}),
    "held_for_five_terms": (held_for_five_terms, "cron", {"second": "*"}),
    "two_seconds_in_a_thread": (two_seconds_in_a_thread, "interval", {"seconds": 3}),
    "never_ends": (never_ends, "date", {}),
    "blocks_the_loop": (blocks_the_loop, "date", {}),
    "hangs_in_a_call": (hangs_in_a_call, "date", {}),
    "hangs_with_the_gil": (hangs_with_the_gil, "date", {}),
}
for name in SCHEDULE.keys() & wanted:
    function, trigger, arguments = SCHEDULE[name]
    election.scheduled_job(trigger, id=name, **arguments)(function)
if "while_leading" in wanted:
    election.while_leading(while_leading)

app = FastAPI(lifespan=election.lifespan)
app.include_router(election.router)


@app.get("/pid")
async def pid() -> int:
    return os.getpid()


@app.get("/loop")
async def loop() -> str:
    return type(asyncio.get_running_loop()).__module__


@app.get("/stream")
async def stream() -> StreamingResponse:
    """An event stream that never ends by itself."""

    async def events() -> AsyncIterator[str]:
        while True:
            yield f"data: {os.getpid()}\n\n"
            await asyncio.sleep(0.2)

    return StreamingResponse(events(), media_type="text/event-stream")
