"""Requests that workers make of the leader: which are carried out, and how the others end."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Any

from .commands import CompleteRequest
from .model import Action, Request, RequestOutcome, State, Tick

MAX_AGE = timedelta(minutes=10)
"""Age at which a request is not carried out any more: its caller has given up waiting."""


def name_tick(tick: Tick) -> dict[str, Any]:
    """A tick as the arguments of a request to cancel its run."""
    return {"due": tick.due.isoformat(), "request": tick.request}


def _named_tick(request: Request) -> Tick:
    assert request.job_id is not None
    assert request.kwargs is not None
    return Tick(request.job_id, datetime.fromisoformat(request.kwargs["due"]), request.kwargs["request"])


def cancel(request: Request, cancel_run: Callable[[Tick], str | None], now: datetime) -> CompleteRequest:
    """Carry out a request to cancel a run.

    Args:
        request: The request.
        cancel_run: Cancels the run of a tick; returns why it cannot.
        now: Time in UTC.
    """
    refusal = cancel_run(_named_tick(request))
    outcome = RequestOutcome.CANCELLED if refusal is None else RequestOutcome.REFUSED
    return CompleteRequest(request.id, now, outcome, refusal)


def sort_requests(
    state: State, jobs: Collection[str], pending: Collection[str], *, term: int, now: datetime
) -> tuple[list[CompleteRequest], list[Request]]:
    """Sort the open requests.

    Args:
        state: State of the ledger.
        jobs: Ids of the jobs that can be run.
        pending: Ids of the jobs that are still to be planned; requests for them stay open.
        term: Number of the term that reads them.
        now: Time in UTC.

    Returns:
        The ends of those that need no run, and the requests to carry out. A resignation is both.
    """
    broken = {job.id: job.broken for job in state.jobs if job.broken}
    completed: list[CompleteRequest] = []
    wanted: list[Request] = []
    for request in state.requests:
        outcome, reason = RequestOutcome.REFUSED, None
        if now - request.at > MAX_AGE:
            outcome, reason = (
                RequestOutcome.EXPIRED,
                f"no leader read it within {MAX_AGE.total_seconds() / 60:g} minutes",
            )
        elif state.copied is not None and request.at < state.copied.at:
            reason = "the request was made in the ledger of which this one is a copy"
        elif request.action is Action.RESIGN and request.term != term:
            reason = f"term {request.term} was over"
        elif request.action is Action.RESIGN:
            outcome = RequestOutcome.RESIGNED
            wanted.append(request)
        elif request.action is Action.CANCEL:
            wanted.append(request)
            continue
        elif request.job_id not in jobs and request.job_id in pending:
            continue
        elif request.job_id not in jobs:
            reason = broken.get(request.job_id or "") or f"there is no job {request.job_id!r} any more"
        else:
            wanted.append(request)
            continue
        completed.append(CompleteRequest(request.id, now, outcome, reason))
    return completed, wanted
