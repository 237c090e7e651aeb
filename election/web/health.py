"""``GET /healthz`` and ``GET /readyz``: whether this worker lives, and whether it is fit to serve.

Both describe the answering worker alone. A pool during an election is ready: its workers serve, and it has a leader
within milliseconds.

``HEAD`` has the status and the headers of ``GET``; the server leaves the body out.
"""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel

from election.core.seat import Seat

from . import models
from .view import PoolView


class Health(BaseModel):
    status: str


def build_health(view: PoolView, fault: Callable[[], str | None]) -> APIRouter:
    """Return the routes. ``fault``: returns the error of this worker in words; None if there is none."""
    router = APIRouter(tags=["election"])

    @router.head("/healthz", include_in_schema=False)
    @router.get("/healthz")
    async def alive() -> Health:
        """This worker lives: its event loop answers."""
        return Health(status="alive")

    @router.head("/readyz", include_in_schema=False)
    @router.get("/readyz", responses={503: {"model": models.Problem, "description": "This worker is not ready"}})
    async def ready() -> Health:
        """This worker takes part, its elector runs, the seat can be read, and no error stands."""
        if (found := fault() or await _of_the_seat(view.seat)) is not None:
            raise HTTPException(503, found, {"Retry-After": "1"})
        return Health(status="ready")

    return router


async def _of_the_seat(seat: Seat) -> str | None:
    """Return why this worker cannot take the seat. A problem of a leader elsewhere does not count."""
    seen = await seat.observe()
    of_the_leader = seen.led and seen.record is not None and seen.problem == seen.record.problem
    return None if of_the_leader else seen.problem
