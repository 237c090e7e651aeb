"""Application around a system: reports when its worker is ready, and runs the system in its lifespan."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI

from bench.facts import tell


def serving(scope: Callable[[], AbstractAsyncContextManager[object]]) -> FastAPI:
    """An application whose lifespan is ``scope``."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with scope():
            tell("ready")
            yield

    return FastAPI(lifespan=lifespan)


def campaigning(campaign: Callable[[], Coroutine[Any, Any, None]]) -> FastAPI:
    """An application beside which ``campaign`` runs."""

    @contextlib.asynccontextmanager
    async def beside() -> AsyncIterator[None]:
        task = asyncio.create_task(campaign())
        yield
        task.cancel()

    return serving(beside)
