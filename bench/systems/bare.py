"""Application of a worker without election: the reference for the measurements at rest and under load."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator

from fastapi import FastAPI
from pydantic import BaseModel

from bench.facts import tell


class Answer(BaseModel):
    """A small document."""

    pid: int
    words: list[str]


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    tell("ready")
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/bare")
async def bare() -> Answer:
    return Answer(pid=os.getpid(), words=["a", "small", "document"])
