"""``GET /leader``: answered by any worker from memory and a few ``stat``s; no lock is touched (PITFALLS 16)."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Response

from .models import LeaderDocument


def build_router(document: Callable[[], LeaderDocument]) -> APIRouter:
    """The routes of one Election; ``document`` says how it stands."""
    router = APIRouter(tags=["election"])

    @router.get(
        "/leader",
        response_model=LeaderDocument,
        responses={503: {"model": LeaderDocument, "description": "Nobody is known to lead"}},
    )
    async def read_leader() -> Response:
        """Who leads: 200 with a leader; 503 and ``Retry-After`` without, with the same document."""
        found = document()
        headers = {"Cache-Control": "no-store"}
        if found.leader is None:
            headers["Retry-After"] = "1"
        return Response(
            found.model_dump_json(),
            status_code=503 if found.leader is None else 200,
            headers=headers,
            media_type="application/json",
        )

    return router
