"""Ledger store in Redis: each write is one script, and so atomic. Implements ``LedgerStore``.

Promises P3 as long as the server loses no writes: see ``diagnostics.py`` for the settings that it needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from election.core.backend import LatestTerms
from election.core.clock import Clock
from election.core.errors import LedgerError
from election.engines.sql.rows import needed, readable
from election.engines.sql.values import FIRST_US, LAST_US, to_us
from election.schedule.commands import AddRequest, Command
from election.schedule.history import BOUNDS, Epoch, JobOverview, RunRow, Totals, Window
from election.schedule.ledger import Ledger
from election.schedule.model import JobState, State
from election.schedule.store import FIRST_JOBS, Filter, Kind, UnmetConditionError, term_over, term_taken

from .address import Address
from .client import RedisClient, RefusedError, to_dict
from .commands import ANNOUNCED, CHANGE, CONDITIONS, call, flat
from .history import History
from .rows import WRONG_TYPE, job_state, open_run, request, row_text
from .scripts import PRUNE, STATE, WRITE

PRUNE_SCAN_FACTOR = 4
"""Oldest rows that are scanned per row that may be removed: the server is blocked meanwhile."""

_BOUNDS = " ".join(map(str, BOUNDS))


class RedisStore:
    """A ledger under the keys of a pool.

    Args:
        address: Server and pool.
        durable: Whether a write counts only when the disk, and the replicas that the server requires, have stored it.
    """

    def __init__(self, address: Address, *, durable: bool = False) -> None:
        self._prefix = address.prefix
        self._client = RedisClient(address, LedgerError, durable=durable)
        self._history = History(self._client, address.prefix)
        self._seen: int | None = None

    def check(self) -> None:
        """Do nothing: a server that cannot be reached at the start may be reached later."""

    async def integrity(self) -> list[str]:
        return []  # a server checks its own storage

    async def close(self) -> None:
        self._seen = None
        await self._client.close()

    async def write(self, commands: Sequence[Command], *, term: int | None) -> list[int]:
        ordered = sorted(enumerate(commands), key=lambda each: not isinstance(each[1], CONDITIONS))  # no rollback here
        calls = [call(command) for _, command in ordered]
        announced = any(isinstance(command, ANNOUNCED) for command in commands)
        if announced:
            calls.append(CHANGE)
        answers = await self._run(calls, term)
        if announced and (version := answers.pop()) - 1 == self._seen:
            self._seen = version  # no other process has written
        found = {place: answer for (place, _), answer in zip(ordered, answers, strict=True)}
        return [
            found[place] if isinstance(command, AddRequest) else bool(found[place])
            for place, command in enumerate(commands)
        ]

    async def begin(self, commands: Sequence[Command], *, term: int) -> State:
        return self._state(await self._run(map(call, commands), term, then=(STATE, FIRST_JOBS)))

    async def changes(self) -> State | None:
        if self._seen is not None and await self._history.number("version") == self._seen:
            return None
        since = [] if self._seen is None else [self._seen]
        return self._state(await self._client.run(STATE, FIRST_JOBS, *since), is_change=bool(since))

    async def prune(self, before: datetime, at_most: int) -> int:
        limits = at_most, at_most * PRUNE_SCAN_FACTOR
        return int(await self._client.write(PRUNE, to_us(before), *limits, FIRST_US, LAST_US))

    async def is_moved(self) -> bool:
        return False  # a copy of a server's data cannot be distinguished from the original

    async def find_jobs(self, job_ids: Sequence[str]) -> list[JobState]:
        rows = await self._history.rows("job", job_ids)
        return [replace(job_state(row), row_text=row_text(row)) for row in rows]

    async def jobs(self, *, removed: bool = False) -> list[JobState]:
        return [job_state(row) for row in await self._history.jobs(removed=removed)]

    async def overview(self, limit: int) -> JobOverview:
        return await self._history.overview(limit)

    async def jobs_after(self, job_id: str, limit: int) -> list[JobState]:
        return await self._history.jobs_after(job_id, limit)

    async def page(self, kind: Kind, where: Filter, before: int | None, limit: int) -> list[Any]:
        return await self._history.page(kind, where, before, limit)

    async def latest_runs(self, job_ids: Sequence[str]) -> dict[str, RunRow]:
        return await self._history.latest_runs(job_ids)

    async def window(self, since: datetime, until: datetime, limit: int) -> Window:
        return await self._history.window(since, until, limit)

    async def epochs(self) -> list[Epoch]:
        return await self._history.epochs()

    async def latest_terms(self) -> LatestTerms:
        number, [fenced] = await asyncio.gather(self._history.number("term"), self._history.hashes(["fences"]))
        return LatestTerms(number, max((int(term) for term in fenced if term != WRONG_TYPE), default=0))

    async def totals(self) -> Totals:
        return await self._history.totals()

    async def pruned_until(self) -> datetime:
        return await self._history.pruned_until()

    async def _run(
        self, calls: Iterable[tuple[Any, ...]], term: int | None, *, then: tuple[Any, ...] | None = None
    ) -> Any:
        number = "" if term is None else term
        try:
            return await self._client.write(WRITE, number, _BOUNDS, *flat(calls), then=then)
        except RefusedError as error:
            raise _refusal(term or 0, error) from error

    def _state(self, found: Any, *, is_change: bool = False) -> State:
        version, jobs, requests, runs, stored = found
        self._seen = needed(int, version, "the number of the latest change")
        read = [job_state(to_dict(row)) for row in jobs]
        by_id = {job.id: job for job in read if is_change or not job.removed}  # a job may be listed twice
        states = sorted(by_id.values(), key=lambda job: job.id)
        wanted, open_runs = readable(request, map(to_dict, requests)), readable(open_run, map(to_dict, runs))
        about = frozenset(by_id) if is_change else None
        return State(
            states, wanted, open_runs, about=about, rest=[each for each in readable(str, stored) if each not in by_id]
        )


class RedisLedger(Ledger):
    """A ledger on a server; for arguments see ``RedisStore`` and ``Ledger``."""

    def __init__(self, address: Address, *, durable: bool = False, clock: Clock | None = None) -> None:
        super().__init__(RedisStore(address, durable=durable), clock)


def _refusal(term: int, error: RefusedError) -> Exception:
    if error.name == "STALE":
        return term_over(term, int(error.what))
    if error.name == "BEGUN":
        return term_taken(term, int(error.what))
    return UnmetConditionError(error.name)
