"""A flock that each worker tries once at its start, replacements too: the shortest of the common answers."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import AsyncIterator

from fastapi import FastAPI

from bench.facts import tell

from . import scheduler


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    with open(os.environ["BENCH_STATE"], "w") as lock:  # noqa: ASYNC230
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            scheduler.start()
        tell("ready")
        yield


app = FastAPI(lifespan=lifespan)
