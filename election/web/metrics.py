"""``GET /metrics``, for Prometheus; with prometheus-client, the extra ``metrics``."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING

from fastapi import APIRouter, HTTPException, Request, Response

from election.core.clock import ends_within
from election.core.distribution import install_command
from election.core.errors import ConfigurationError, LedgerError, LedgerVersionError
from election.core.threads import run_in_thread
from election.schedule.history import MAX_RUNNING
from election.schedule.ledger_reader import LedgerReader

from . import models
from .guard import only_known_hosts
from .history_cache import SharedReads
from .view import PoolView

if TYPE_CHECKING:
    from .collector import Figures

TIMEOUT_S = 3.0
"""Seconds that a scrape waits for the ledger: less than Prometheus gives it, so that the leader is exported anyway."""


def build_metrics(view: PoolView, allowed_hosts: Collection[str]) -> APIRouter:
    """The route. Raises ``ConfigurationError`` without prometheus-client. allowed_hosts: see ``Election``."""
    try:
        from .collector import PoolCollector, exposition
    except ImportError as error:
        raise ConfigurationError(
            f"election.metrics needs prometheus-client ({error}): {install_command('metrics')}"
        ) from error
    reads: SharedReads[None, Figures | None] = SharedReads(view, 1)
    router = APIRouter(tags=["election"], **only_known_hosts(allowed_hosts))

    @router.get("/metrics", response_class=Response, responses={503: {"model": models.Problem}})
    async def read_metrics(request: Request) -> Response:
        """The pool's figures, the same whichever worker answers."""
        if (absence := view.absence()) is not None:
            raise HTTPException(503, absence)
        reading = reads.get(None, 0.0, partial(_figures, view.ledger), "election metrics")
        figures = reading.result() if await ends_within(reading, view.clock, TIMEOUT_S) else None
        seen = await view.seat.observe()
        pool = PoolCollector(
            view.names,
            models.leader(seen, stalled_after=view.stalled_after),
            seen.record.term if seen.record is not None else 0,
            len(await view.seat.workers()),
            figures,
            view.clock.now(),
        )
        # In a thread: with many jobs it is long enough to make a leader's ticks late.
        body, content_type = await run_in_thread(partial(exposition, pool, request.headers.get("accept", "")))
        return Response(body, headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    return router


async def _figures(ledger: LedgerReader) -> Figures | None:
    """Read the figures; None while the ledger cannot be read: the leader is exported all the same."""
    from .collector import Figures

    try:
        totals, overview = await ledger.totals(), await ledger.overview()
        open_runs = await ledger.runs(outcome="running", limit=MAX_RUNNING)
    except (LedgerError, LedgerVersionError):
        return None
    return Figures(totals, overview.code, min((run.claimed_at for run in open_runs), default=None))
