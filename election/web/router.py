"""The routes of one Election. ``GET /leader`` is answered by any worker; no lock is touched (docs/pitfalls.md#16)."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Response

from .control import control_routes
from .guard import check_dependency, check_token, guarded_by_application, guarded_by_token, only_known_hosts
from .history import history_routes
from .live import ControlKind, live_routes
from .models import LeaderDocument
from .view import PoolView

TOKEN = "ELECTION_ADMIN_TOKEN"  # noqa: S105  the name of the variable, not a token


def build_router(
    view: PoolView,
    allowed_hosts: Collection[str],
    *,
    read: Callable[..., Any] | None = None,
    control: Callable[..., Any] | None = None,
) -> APIRouter:
    """All routes; those that change something only with ``control`` or ``$ELECTION_ADMIN_TOKEN``.

    Args:
        view: View of the pool.
        allowed_hosts: See ``Election``.
        read: See ``Election.routes``.
        control: See ``Election.routes``.

    Raises:
        ConfigurationError: The token could be guessed, or a dependency is no function.
    """
    check_dependency("read", read)
    check_dependency("control", control)
    token = "" if control else os.environ.get(TOKEN, "").strip()
    kind: ControlKind = "application" if control else "token" if token else None
    router = APIRouter(tags=["election"], **only_known_hosts(allowed_hosts))
    reading = APIRouter(dependencies=[Depends(read)] if read else [])

    @reading.get(
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

    reading.include_router(live_routes(view, controls=kind))
    part = [Depends(taking_part)]
    reading.include_router(history_routes(view), dependencies=part)
    router.include_router(reading)
    if control:
        router.include_router(control_routes(view, guarded_by_application(control, view.clock)), dependencies=part)
    elif token:
        check_token(token)
        router.include_router(control_routes(view, guarded_by_token(token, view.clock)), dependencies=part)
    return router
