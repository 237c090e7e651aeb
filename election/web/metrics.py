"""``GET /metrics``, for Prometheus; with prometheus-client, the extra ``metrics``."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from fastapi import APIRouter, HTTPException, Request, Response

from election.core.distribution import install_command
from election.core.errors import ConfigurationError, LedgerError, LedgerVersionError
from election.core.threads import run_in_thread
from election.schedule.history import Totals
from election.schedule.ledger_reader import LedgerReader

from . import models
from .guard import only_known_hosts
from .view import PoolView


def build_metrics(view: PoolView, allowed_hosts: Collection[str]) -> APIRouter:
    """The route. Raises ``ConfigurationError`` without prometheus-client. allowed_hosts: see ``Election``."""
    try:
        from .collector import PoolCollector, exposition
    except ImportError as error:
        raise ConfigurationError(
            f"election.metrics needs prometheus-client ({error}): {install_command('metrics')}"
        ) from error
    router = APIRouter(tags=["election"], **only_known_hosts(allowed_hosts))

    @router.get("/metrics", response_class=Response, responses={503: {"model": models.Problem}})
    async def read_metrics(request: Request) -> Response:
        """The pool's figures, the same whichever worker answers."""
        if (absence := view.absence()) is not None:
            raise HTTPException(503, absence)
        totals = await _totals(view.ledger)
        seen = await view.seat.observe()
        figures = PoolCollector(
            models.leader(seen, stalled_after=view.stalled_after),
            seen.record.term if seen.record is not None else 0,
            len(await view.seat.workers()),
            totals,
            view.clock.now(),
        )
        # In a thread: with many jobs it is long enough to make a leader's ticks late.
        body, content_type = await run_in_thread(partial(exposition, figures, request.headers.get("accept", "")))
        return Response(body, headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    return router


async def _totals(ledger: LedgerReader) -> Totals | None:
    """Read the totals; None while the ledger cannot be read: the leader is exported all the same."""
    try:
        return await ledger.totals()
    except (LedgerError, LedgerVersionError):
        return None
