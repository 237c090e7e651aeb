"""A worker with many jobs that were added at run time; reads commands on standard input, and answers in JSON.

``python -m bench.systems.many URL``, or ``bare`` for an ``AsyncIOScheduler`` with its memory job store.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger
from fastapi import FastAPI

from election import Election

NOOP = "bench.systems.many:noop"

OFTEN_S = 0.02
"""Seconds between two ticks of the one job of the code."""

BATCH = 1_000
AT_ONCE = 16
"""Calls of ``add_job`` that are under way at a time."""

REQUESTS = 200
CHANGES = 40
DAY_S = 86_400

_ran: list[float] = []
_begun = asyncio.Event()


async def noop() -> None:
    """A job that is not due while it is measured."""


async def often() -> None:
    """Note when it first runs."""
    if not _ran:
        _ran.append(time.monotonic())
        _begun.set()


def job(number: int) -> dict[str, Any]:
    """Arguments of ``add_job`` for a job a day."""
    return {
        "id": f"reminder-{os.getpid()}-{number}",
        "seconds": DAY_S,
        "start_date": datetime.now(UTC) + timedelta(hours=12),
    }


class Worker:
    """Carries out one order after the other."""

    def __init__(self, url: str) -> None:
        self.election = Election(url)
        self.election.scheduled_job("interval", seconds=OFTEN_S, id="often")(often)
        self.app = FastAPI()
        self.app.include_router(self.election.router)
        self._number = 0

    def _next(self) -> dict[str, Any]:
        self._number += 1
        return job(self._number)

    async def leads(self) -> float:
        """Monotonic time of the first run of this worker's term."""
        await _begun.wait()
        return _ran[0]

    async def add_jobs(self, number: int) -> float:
        """Seconds for so many jobs, in batches."""
        began = time.monotonic()
        for _ in range(0, number, BATCH):
            await self.election.add_jobs(
                [{"func": NOOP, "trigger": "interval", **self._next()} for _ in range(min(BATCH, number))]
            )
        return time.monotonic() - began

    async def add_each(self, number: int) -> float:
        """Seconds for so many calls of ``add_job``."""
        began = time.monotonic()

        async def add(count: int) -> None:
            for _ in range(count):
                await self.election.add_job(NOOP, "interval", **self._next())

        await asyncio.gather(*(add(number // AT_ONCE) for _ in range(AT_ONCE)))
        return time.monotonic() - began

    async def rest(self) -> None:
        """Return when the work of planning is done."""
        former, used = float("inf"), float("inf")
        while used < 0.8 * former or used > 0.5:  # a job that is due each 20 ms takes some of it
            before, former = time.process_time(), used
            await asyncio.sleep(1)
            used = time.process_time() - before

    async def stands_still(self) -> list[float]:
        """Milliseconds of the longest stand-still of the event loop for each of some calls of ``add_job``."""
        found = []
        for _ in range(CHANGES):
            watching = asyncio.ensure_future(_longest_gap(0.1))
            await self.election.add_job(NOOP, "interval", **self._next())
            found.append(await watching)
        return found

    async def ask(self) -> dict[str, Any]:
        """Bytes of ``/leader``, and milliseconds of some requests within this process."""
        took, size = [], 0
        for _ in range(REQUESTS):
            began = time.perf_counter()
            size = len(await _get(self.app, "/leader"))
            took.append((time.perf_counter() - began) * 1e3)
            await asyncio.sleep(0.005)
        return {"bytes": size, "ms": took}


async def _get(app: FastAPI, path: str) -> bytes:
    """Body of the answer to a request without a network."""
    body = b""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        nonlocal body
        body += message.get("body", b"")

    headers = [(b"host", b"127.0.0.1")]
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": headers, "asgi": {}}
    await app(scope, receive, send)
    return body


async def _longest_gap(seconds: float) -> float:
    longest, end = 0.0, time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        await asyncio.sleep(0.001)
        longest = max(longest, time.perf_counter() - began - 0.001)
    return longest * 1e3


def memory() -> int:
    """Bytes of this process."""
    gc.collect()
    return int(psutil.Process().memory_full_info().uss)


async def _serve(commands: Mapping[str, Any]) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print(json.dumps("ready"), flush=True)
    while line := await reader.readline():
        name, *arguments = json.loads(line)
        found = commands[name](*arguments)
        print(json.dumps(await found if asyncio.iscoroutine(found) else found), flush=True)


async def main(words: Sequence[str]) -> None:
    """Take part in a pool, and carry out commands until standard input ends."""
    if words == ["bare"]:
        scheduler = AsyncIOScheduler(timezone="UTC")

        def add(number: int) -> None:
            for each in range(number):
                given = job(each)
                trigger = IntervalTrigger(seconds=DAY_S, start_date=given["start_date"], timezone="UTC")
                scheduler.add_job(noop, trigger, id=given["id"])

        scheduler.start()
        await _serve({"add_jobs": add, "memory": memory})
        return
    worker = Worker(*words)
    async with worker.election:
        names = ("leads", "add_jobs", "add_each", "rest", "stands_still", "ask")
        await _serve({name: getattr(worker, name) for name in names} | {"memory": memory})


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    asyncio.run(main(sys.argv[1:]))
