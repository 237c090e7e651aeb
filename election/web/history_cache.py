"""Cache of the ledger's part of the live page: one read for all viewers of a time range, with a short time limit."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from election.core.clock import ends_within
from election.core.errors import LedgerError, LedgerVersionError
from election.schedule.history import RunRow, SkipRow, TermRow, Window

from .view import PoolView

_Key = TypeVar("_Key")
_Found = TypeVar("_Found")

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


class SharedReads(Generic[_Key, _Found]):
    """Reads of the ledger, each for all who ask for the same at the same time.

    Args:
        view: The pool, whose end ends the reads under way.
        at_most: Reads that are kept, with what they found.
    """

    def __init__(self, view: PoolView, at_most: int) -> None:
        self._view = view
        self._at_most = at_most
        self._kept: OrderedDict[_Key, tuple[float, asyncio.Task[_Found]]] = OrderedDict()

    def get(
        self, key: _Key, max_age_s: float, read: Callable[[], Coroutine[Any, Any, _Found]], name: str
    ) -> asyncio.Task[_Found]:
        """Return the read under way, or one that began no more than ``max_age_s`` ago; otherwise begin one."""
        now = self._view.clock.monotonic()
        began, reading = self._kept.get(key, (float("-inf"), None))
        if reading is None or (reading.done() and now - began > max_age_s):
            reading = self._view.read(read(), name)
            self._kept[key] = now, reading
            self._kept.move_to_end(key)
            while len(self._kept) > self._at_most:
                self._kept.popitem(last=False)
        return reading


class HistoryCache:
    """Time ranges of a ledger's history, as JSON."""

    def __init__(self, view: PoolView) -> None:
        self._view = view
        self._reads: SharedReads[tuple[int, int | None], str] = SharedReads(view, MAX_CACHED)

    async def between(self, since: int, until: int | None) -> str:
        """Return the history between two moments, in milliseconds since the epoch; None: until now."""
        reading = self._reads.get((since, until), MAX_AGE_S, lambda: self._read(since, until), "election live")
        is_read = await ends_within(reading, self._view.clock, TIMEOUT_S)
        return reading.result() if is_read else without("the ledger does not answer")

    async def latest(self, job_ids: Sequence[str]) -> str:
        """Return the latest runs of each of these jobs, latest first: number, outcome, begin and end."""
        reading = self._view.read(self._read_latest(job_ids), "election live runs")
        return reading.result() if await ends_within(reading, self._view.clock, TIMEOUT_S) else "{}"

    async def _read_latest(self, job_ids: Sequence[str]) -> str:
        found = {}
        try:
            for job_id in job_ids:
                rows = await self._view.ledger.runs(job_id=job_id, limit=MAX_CELLS)
                found[job_id] = [(row.seq, row.outcome, _ms(row.claimed_at), _ms(row.ended_at)) for row in rows]
        except (LedgerError, LedgerVersionError):
            pass  # the page's data have the reason; the page asks again for what is missing
        return json.dumps(found)

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
        "started": _ms(row.started_at),
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
        "host": row.host,
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
