"""The scheduler in every worker's lifespan, as in APScheduler's own examples: the problem to be solved."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from bench.facts import tell

from . import scheduler


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    running = scheduler.start()
    tell("ready")
    yield
    running.shutdown(wait=False)


app = FastAPI(lifespan=lifespan)
