"""Application of served pools; ``$JOBS`` names the jobs of ``tests.support.jobs`` that it schedules."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse

from election import Election, ElectionError
from tests.support.facts import write_fact
from tests.support.jobs import JOBS

election = Election(
    os.environ["ELECTION_POOL"],
    ledger=os.environ.get("ELECTION_TEST_LEDGER"),
    heartbeat=float(os.environ.get("ELECTION_TEST_HEARTBEAT", "0.5")),
    safety_poll=float(os.environ.get("ELECTION_TEST_SAFETY_POLL", "1")),
    drain_timeout=float(os.environ.get("ELECTION_DRAIN_TIMEOUT", "10")),
    fence_after=float(os.environ.get("ELECTION_FENCE_AFTER", "0")) or None,
    durable="ELECTION_TEST_DURABLE" in os.environ,
)


async def while_leading() -> None:
    write_fact("leading", term=election.term)
    await asyncio.Event().wait()


for name in os.environ["JOBS"].split(","):
    if name == "while_leading":
        election.while_leading(while_leading)
    else:
        function, trigger, arguments = JOBS[name]
        election.scheduled_job(trigger, **{"id": name, "name": name, **arguments})(function)

app = FastAPI(lifespan=election.lifespan)
app.include_router(election.router)
app.include_router(election.metrics)
app.include_router(election.health)


@app.get("/loop")
async def loop() -> str:
    return type(asyncio.get_running_loop()).__module__


@app.get("/stream")
async def stream() -> StreamingResponse:
    """An event stream without an end."""

    async def events() -> AsyncIterator[str]:
        while True:
            yield f"data: {os.getpid()}\n\n"
            await asyncio.sleep(0.2)

    return StreamingResponse(events(), media_type="text/event-stream")


@app.put("/jobs/{job_id}")
async def add(job_id: str, func: str, seconds: float, kwargs: Mapping[str, Any] | None = None) -> None:
    """An endpoint of an application that adds jobs at run time."""
    try:
        await election.add_job(func, "interval", id=job_id, seconds=seconds, kwargs=kwargs, replace=True)
    except ElectionError as error:
        raise HTTPException(400, f"{type(error).__name__}: {error}") from error


@app.delete("/jobs/{job_id}")
async def remove(job_id: str) -> None:
    try:
        await election.remove_job(job_id)
    except ElectionError as error:
        raise HTTPException(400, f"{type(error).__name__}: {error}") from error


@app.post("/child")
async def start_child() -> int:
    """Start a process that keeps the descriptor of the lock open, like one forked in C."""
    links = {int(name): f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")}
    held = [number for number, link in links.items() if _target(link).endswith("/leader.lock")]
    return subprocess.Popen(["sleep", "600"], pass_fds=held).pid  # longer than the tests that share it


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""
