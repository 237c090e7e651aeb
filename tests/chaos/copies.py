"""A worker on a copy of a pool that runs: it has to say so, and to leave the original's ticks and workers alone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from tests.support.pool import Pool

from .facts import Fact
from .grounds import UnnoticedError

TOLD = ("leads term", "copied or restored")
"""Texts of ``problem``: the leader that the copied record names leads elsewhere, or the copied ledger is one."""

SET_ASIDE = "ledger.db.corrupt-*"
"""A ledger that was copied in the middle of a write, and could not be used."""

LIMIT_S = 30.0
"""Seconds for the worker to start and to say so, on a machine that may be busy."""

AGAIN_S = 0.5


class CopiedPool:
    """One worker, started at once. directory: for its log and its facts, which nobody judges but this."""

    def __init__(self, directory: Path, where: Path | str, environment: Mapping[str, str]) -> None:
        self._where = where
        self._copied_at = datetime.now(UTC)
        self._until = time.monotonic() + LIMIT_S
        orders = directory / "orders"
        orders.mkdir(parents=True)
        own = {**environment, "ORDERS": str(orders)}
        self.pool = Pool(directory, workers=1, pool=where, environment=own, start_method="spawn")
        self.pool.launch()
        self.pool.set_timeout(1.0)

    def end(self) -> float | None:
        """Stop it, if it has said what it is. Raises ``UnnoticedError``."""
        assert self.pool.parent is not None
        told = self._is_told()
        if not told and time.monotonic() < self._until:
            return AGAIN_S
        self.pool.parent.terminate()
        if not told:
            raise UnnoticedError(f"a worker on a copy of the pool did not say so: {self.pool.log}")
        begun = [fact for fact in Fact.read(self.pool.facts_path) if fact.event == "begin" and fact.due is not None]
        if early := [fact for fact in begun if fact.due is not None and fact.due <= self._copied_at]:
            raise UnnoticedError(f"a copy of the pool ran what the original owed: {early[0].job}, due {early[0].due}")
        return None

    def _is_told(self) -> bool:
        answer = self.pool.get()
        problem = "" if answer is None else answer.json()["problem"] or ""
        return any(text in problem for text in TOLD) or self._is_set_aside()

    def _is_set_aside(self) -> bool:
        return isinstance(self._where, Path) and any(self._where.glob(SET_ASIDE))
