"""Context of one term: what the elector and the work of the term share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from .events import Event
from .term import Term


@dataclass(eq=False, slots=True)
class TermContext:
    """One term, as the elector and its work share it.

    Attributes:
        term: The term.
        lost: Set when the loss of the seat is detected.
        is_held: Returns whether this process holds the seat of the term now, determined anew (P8).
        resign: Requests the resignation; returns at once.
        emit: Passes an event to the hooks.
        peers_differ: Returns whether a living worker has other jobs in its code than this one.
        takeover_ms: Duration of the takeover in milliseconds; None until the work has begun.
        problem: Why the work cannot be done now; None if it can. Every heartbeat publishes it.
        warning: Condition that an operator should look at though the work goes on; published if there is no problem.
        queued: Ids of the jobs that wait for a thread, one for each run. Every heartbeat publishes their number.
    """

    term: Term
    lost: asyncio.Event
    is_held: Callable[[], bool]
    resign: Callable[[], object]
    emit: Callable[[Event], None]
    peers_differ: Callable[[], Awaitable[bool]]
    takeover_ms: float | None = None
    problem: str | None = None
    warning: str | None = None
    queued: Sequence[str] = ()
