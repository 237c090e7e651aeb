"""The routes of one Election. ``GET /leader`` is answered by any worker; no lock is touched (docs/pitfalls.md#16)."""

from __future__ import annotations

import os
from collections.abc import Collection

from fastapi import APIRouter, Depends, HTTPException, Response

from .control import control_routes
from .guard import check_token, only_known_hosts
from .history import history_routes
from .live import live_routes
from .models import LeaderDocument
from .view import PoolView

TOKEN = "ELECTION_ADMIN_TOKEN"  # noqa: S105  the name of the variable, not a token


def build_router(view: PoolView, allowed_hosts: Collection[str]) -> APIRouter:
    """All routes; those that change something only if ``$ELECTION_ADMIN_TOKEN`` is set.

    Raises ``ConfigurationError`` for a token that could be guessed. allowed_hosts: see ``Election``.
    """
    router = APIRouter(tags=["election"], **only_known_hosts(allowed_hosts))

    @router.get(
        "/leader",
        response_model=LeaderDocument,
        responses={503: {"model": LeaderDocument, "description": "Nobody is known to lead"}},
    )
    async def read_leader() -> Response:
        """Leader of the pool: 200 with a leader; 503 and ``Retry-After`` without, with the same document."""
        found = await view.document()
        headers = {"Cache-Control": "no-store"}
        if found.leader is None:
            headers["Retry-After"] = "1"
        return Response(
            found.model_dump_json(),
            status_code=503 if found.leader is None else 200,
            headers=headers,
            media_type="application/json",
        )

    async def taking_part() -> None:
        if (absence := view.absence()) is not None:
            raise HTTPException(503, absence)  # and nothing would close the ledger that was opened for it

    token = os.environ.get(TOKEN, "").strip()
    router.include_router(live_routes(view, controls=bool(token)))
    part = [Depends(taking_part)]
    router.include_router(history_routes(view), dependencies=part)
    if token:
        check_token(token)
        router.include_router(control_routes(view, token), dependencies=part)
    return router
