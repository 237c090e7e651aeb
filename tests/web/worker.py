"""A worker that serves on a port of its own, so that a test can choose whom it asks: ``worker POOL PORT``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException

from election import Election, ElectionError
from tests.web.jobs import note

election = Election(sys.argv[1], heartbeat=0.1, safety_poll=0.3)
election.scheduled_job("interval", seconds=0.25, id="often")(note)
election.scheduled_job("interval", hours=1, id="now and/then")(note)

app = FastAPI(lifespan=election.lifespan)
app.include_router(election.router)
app.include_router(election.metrics)
app.include_router(election.health)


@app.put("/jobs/{job_id}")
async def add(job_id: str, func: str, seconds: float, kwargs: Mapping[str, Any] | None = None) -> None:
    """What an application's own endpoint would do."""
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
    """Start a process that keeps the descriptor of the lock, as one does that was forked in C."""
    links = {int(name): f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")}
    held = [number for number, link in links.items() if _target(link).endswith("/leader.lock")]
    return subprocess.Popen(["sleep", "60"], pass_fds=held).pid


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="info", timeout_graceful_shutdown=2)
