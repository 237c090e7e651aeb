"""election, as in its README. ``BENCH_WITHOUT`` disables ways to detect a vacancy, ``BENCH_JOBS`` adds jobs."""

from __future__ import annotations

import asyncio
import os

from bench.facts import tell
from election import Election, current_run

from .job import tick
from .serving import serving

WITHOUT = set(filter(None, os.environ.get("BENCH_WITHOUT", "").split(",")))

WHEN = {"minute": "0"} if "BENCH_IDLE" in os.environ else {"second": "*"}

if "pidfd" in WITHOUT:
    del os.pidfd_open
if "fifo" in WITHOUT:
    del os.mkfifo

election = Election(
    os.environ.get("BENCH_URL") or os.environ["BENCH_STATE"],
    fence_after=float(os.environ.get("BENCH_FENCE_AFTER", "0")) or None,
)


@election.scheduled_job("cron", **WHEN)
async def each_second() -> None:
    await tick(current_run().due)


for number in range(int(os.environ.get("BENCH_JOBS", "0"))):
    election.scheduled_job("cron", hour=4, minute=number % 60, id=f"idle-{number}")(tick)


@election.while_leading
async def lead() -> None:
    tell("leads")
    await asyncio.Event().wait()


app = serving(lambda: election)
app.include_router(election.router)
