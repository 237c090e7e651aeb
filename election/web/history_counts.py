"""Counts of runs and skipped ticks by hour, for the live page's view of a day or a week."""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

from election.core.clock import ends_within
from election.core.errors import LedgerError, LedgerVersionError

from .history_cache import SharedReads
from .view import PoolView

Days = Literal["1", "7"]

STEPS_S: Mapping[Days, int] = {"1": 3600, "7": 6 * 3600}
"""Seconds that are counted together, by the length of the view."""

TIMEOUT_S = 0.5
"""Seconds that a request waits for counts; the page asks again for those that are missing."""

LATE = timedelta(hours=1)
"""Time after which the counts of a period are final, unless a run of it still goes on."""

SHORTEST = timedelta(seconds=30)
"""Periods that have too many rows to be counted at once are halved down to this length."""

MAX_AGE_S = 1.0
"""Seconds for which counts that are not final are kept."""

MAX_KEPT = 256
"""Periods whose counts are kept."""

MANY = {"many": 1}
"""Counts of a period that has too many rows."""

Counts = Mapping[str, int] | None
"""Runs by outcome, ``running`` included, and ``skipped`` ticks; None if they are too many to be counted."""


class HistoryCounts:
    """Counts of a ledger's history; those of a period that is over are read once.

    In an answer, a period is null until it has been read.
    """

    def __init__(self, view: PoolView) -> None:
        self._view = view
        self._kept: OrderedDict[tuple[int, int], tuple[Counts, bool]] = OrderedDict()
        self._reads: SharedReads[int, str | None] = SharedReads(view, len(STEPS_S))

    async def latest(self, days: Days) -> str:
        """Return the counts of the latest ``days`` as JSON: of each period those that have been read so far."""
        step = STEPS_S[days]
        end = int(self._view.clock.now().timestamp()) // step + 1
        periods = range(end - int(days) * 86400 // step, end)
        reading = self._reads.get(step, MAX_AGE_S, lambda: self._read(step, periods), "election live counts")
        problem = reading.result() if await ends_within(reading, self._view.clock, TIMEOUT_S) else None
        found = [self._kept.get((step, each)) for each in periods]
        answer = {
            "from": periods[0] * step * 1000,
            "step": step * 1000,
            "periods": [each and (each[0] or MANY) for each in found],
            "complete": problem is None and None not in found,
            "problem": problem,
        }
        return json.dumps(answer)

    async def _read(self, step: int, periods: Sequence[int]) -> str | None:
        """Read the counts that are missing or not final, latest first; return what prevents that."""
        now = self._view.clock.now()
        try:
            for each in reversed(periods):
                counts, is_final = self._kept.get((step, each), (None, False))
                if is_final:
                    continue
                begin, end = (datetime.fromtimestamp(moment * step, UTC) for moment in (each, each + 1))
                counts = await self._count(begin, end)
                is_final = end + LATE < now and not (counts or {}).get("running")
                self._kept[step, each] = counts, is_final
                self._kept.move_to_end((step, each))
                while len(self._kept) > MAX_KEPT:
                    self._kept.popitem(last=False)
        except (LedgerError, LedgerVersionError) as error:
            return str(error)
        return None

    async def _count(self, begin: datetime, end: datetime) -> Counts:
        """Count the half-open period from ``begin`` to ``end``, in halves if it has too many rows."""
        found = await self._view.ledger.window(begin, end - timedelta(microseconds=1), 1)
        if found.counts is not None or end - begin <= SHORTEST:
            return found.counts
        middle = begin + (end - begin) / 2
        total = Counter[str]()
        for half in ((begin, middle), (middle, end)):
            counts = await self._count(*half)
            if counts is None:
                return None
            total.update(counts)
        return dict(total)
