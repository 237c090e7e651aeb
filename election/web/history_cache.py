"""Cache of the ledger's part of the live page: one read for all viewers of a time range, with a short time limit."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from election.core.clock import first
from election.core.errors import LedgerError, LedgerVersionError
from election.schedule.history import RunRow, SkipRow, TermRow, Window

from .view import PoolView

MAX_AGE_S = 0.1
"""Seconds for which an answer is cached."""

TIMEOUT_S = 0.5
"""Seconds that a request waits for the ledger at most; then it reports that the ledger does not answer."""

MAX_ROWS = 1000
"""Approximate limit of runs, of skips and of terms in one answer: more cannot be distinguished in a picture."""

MAX_CACHED = 16
"""Answers that are cached for further requests of the same time range."""

MAX_CELLS = 30
"""Latest runs of a job in its row of the page."""

MAX_ERROR_LENGTH = 400
"""Characters of an error in an answer; ``/leader/runs`` has all of them."""

EMPTY: Mapping[str, Any] = {
    "terms": [], "runs": [], "skips": [], "last": {}, "runs_every": 1, "skips_every": 1, "counts": None, "begins": None,
}  # fmt: skip


class HistoryCache:
    """Time ranges of a ledger's history, as JSON."""

    def __init__(self, view: PoolView) -> None:
        self._view = view
        self._cached: OrderedDict[tuple[int, int | None], tuple[float, asyncio.Task[str]]] = OrderedDict()

    async def between(self, since: int, until: int | None) -> str:
        """Return the history between two moments, in milliseconds since the epoch; None: until now."""
        asking = self._ask(since, until)
        await first(asyncio.wait([asking]), self._view.clock.sleep(TIMEOUT_S))
        is_read = asking.done() and not asking.cancelled()
        return asking.result() if is_read else without("the ledger does not answer")

    async def latest(self, job_ids: Sequence[str]) -> str:
        """Return the latest runs of each of these jobs, latest first: number, outcome, begin and end."""
        reading = self._view.read(self._read_latest(job_ids), "election live runs")
        await first(asyncio.wait([reading]), self._view.clock.sleep(TIMEOUT_S))
        return reading.result() if reading.done() and not reading.cancelled() else "{}"

    async def _read_latest(self, job_ids: Sequence[str]) -> str:
        found = {}
        try:
            for job_id in job_ids:
                rows = await self._view.ledger.runs(job_id=job_id, limit=MAX_CELLS)
                found[job_id] = [(row.seq, row.outcome, _ms(row.claimed_at), _ms(row.ended_at)) for row in rows]
        except (LedgerError, LedgerVersionError):
            pass  # the page's data have the reason; the page asks again for what is missing
        return json.dumps(found)

    def _ask(self, since: int, until: int | None) -> asyncio.Task[str]:
        """Return the read of the ledger: the one under way or just ended, otherwise a new one."""
        now = self._view.clock.monotonic()
        asked_at, asking = self._cached.get((since, until), (float("-inf"), None))
        if asking is None or (asking.done() and now - asked_at > MAX_AGE_S):
            asking = self._view.read(self._read(since, until), "election live")
            self._cached[since, until] = now, asking
            self._cached.move_to_end((since, until))
            while len(self._cached) > MAX_CACHED:
                self._cached.popitem(last=False)
        return asking

    async def _read(self, since: int, until: int | None) -> str:
        end = self._view.clock.now() if until is None else _moment(until)
        try:
            found = await self._view.ledger.window(_moment(since), end, MAX_ROWS)
            last = await self._view.ledger.last_outcomes(self._view.shown())
        except (LedgerError, LedgerVersionError) as error:
            return without(str(error))
        return json.dumps(_to_json(found, last, _moment(since)))


def without(problem: str | None) -> str:
    """Return an answer without history, and the reason."""
    return json.dumps({**EMPTY, "problem": problem})


def _to_json(found: Window, last: Mapping[str, RunRow], since: datetime) -> dict[str, Any]:
    runs = {row.seq: row for row in found.runs}
    if found.runs_every > 1:  # no job that ran then disappears
        runs |= {row.seq: row for row in last.values() if row.claimed_at >= since}
    return {
        "terms": [_term(row) for row in found.terms],
        "runs": [_run(runs[seq]) for seq in sorted(runs, reverse=True)],
        "skips": [_skip(row) for row in found.skips],
        "last": {job_id: _run(row) for job_id, row in last.items()},
        "runs_every": found.runs_every,
        "skips_every": found.skips_every,
        "counts": None if found.counts is None else dict(found.counts),
        "begins": _ms(found.begins),
        "problem": None,
    }


def _run(row: RunRow) -> dict[str, Any]:
    return {
        "seq": row.seq,
        "job": row.job_id,
        "due": _ms(row.due),
        "asked": row.request > 0,
        "term": row.term,
        "attempt": row.attempt,
        "at": _ms(row.claimed_at),
        "end": _ms(row.ended_at),
        "outcome": row.outcome,
        "error": row.error and row.error[:MAX_ERROR_LENGTH],
    }


def _skip(row: SkipRow) -> dict[str, Any]:
    return {
        "seq": row.seq,
        "job": row.job_id,
        "first": _ms(row.first_due),
        "last": _ms(row.last_due),
        "count": row.count,
        "reason": row.reason,
        "term": row.term,
        "at": _ms(row.at),
    }


def _term(row: TermRow) -> dict[str, Any]:
    return {
        "term": row.term,
        "pid": row.pid,
        "at": _ms(row.began_at),
        "end": _ms(row.ended_at),
        "reason": row.reason,
        "from": row.from_pid,
        "ms": row.takeover_ms,
        "standing": row.standing,
    }


def _ms(moment: datetime | None) -> float | None:
    """Milliseconds since the epoch, as JavaScript counts."""
    return None if moment is None else round(moment.timestamp() * 1000, 1)


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
