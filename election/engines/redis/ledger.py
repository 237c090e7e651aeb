"""The ledger in Redis. Implements ``election.schedule.ledger.Ledger``: each write is one script, and so all or nothing.

Promises P3 as long as the server forgets nothing: see ``diagnostics.py`` for the settings that it needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from election.core.clock import Clock, SystemClock, since_boot
from election.core.errors import JobDefinitionError, LedgerError, StaleTermError, UnknownJobError
from election.core.process import ProcessIdentity
from election.core.term import Standing, Term
from election.engines.sql.rows import to_time, to_us
from election.schedule.catchup import given_up, owes_from
from election.schedule.history import BOUNDS, Accounts, Epoch, OddClaim, RunRow, SkipRow, TermRow, Totals, Window
from election.schedule.model import Action, Entry, JobState, OpenRun, RegisterJob, State, StoredJob
from election.schedule.triggers import build

from .address import Address
from .client import RedisClient, RefusedError, to_dict
from .entries import beginning, call, flat
from .history import History
from .rows import job_state, open_run, request
from .scripts import PRUNE, STATE, WRITE

LOOKED_AT = 4
"""Times as many of the oldest rows are looked at as may be removed: the server does nothing else meanwhile."""

TRIES = 20
"""How often a job is looked at again that was changed between a look and a change."""

_CHANGE = ("change",)

_BOUNDS = " ".join(map(str, BOUNDS))


class RedisLedger:
    """A ledger under the keys of a pool.

    durable: whether a write counts only when the disk, and the replicas that the server asks for, have it.
    clock: dates what is written.
    """

    def __init__(self, address: Address, *, durable: bool = False, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._prefix = address.prefix
        self._client = RedisClient(address, LedgerError, durable=durable)
        self._history = History(self._client, address.prefix)
        self._seen: int | None = None

    def check(self) -> None:
        """A server that is not to hand at a start may be so later, so nothing is asked of it."""

    async def close(self) -> None:
        self._seen = None
        await self._client.close()

    # --- the leader's ----------------------------------------------------------------------------------------------

    async def last_term(self) -> int:
        return await self._history.number("term")

    async def was_fenced(self, term: int) -> bool:
        return bool(await self._client.read("HEXISTS", f"{self._prefix}fences", term))

    async def fence(self, term: int, *, pid: int, by_pid: int, silent: float, every: float) -> bool:
        now = to_us(self._clock.now())
        intent = json.dumps({"pid": pid, "by_pid": by_pid, "at": now, "silent_s": round(silent, 3)})
        [noted] = await self._write([("fence", term, intent, now, now - round(every * 1e6))])
        return bool(noted)

    async def begin_term(self, term: Term, holder: ProcessIdentity, *, began_ns: int | None = None) -> State:
        calls = flat(beginning(term, holder, began_ns or since_boot()))
        try:
            found = await self._client.write(WRITE, term.number, _BOUNDS, *calls, then=STATE)
        except RefusedError as error:
            raise _stale(term.number, error) from error
        return self._state(found)

    async def confirm_term(self, term: int, takeover_ms: float) -> None:
        await self._write([("confirm", term, round(takeover_ms, 2))])

    async def end_term(self, term: int, standing: Standing) -> None:
        await self._write([("finish", term, to_us(self._clock.now()), since_boot(), standing.value)])

    async def record(self, term: int, entries: Sequence[Entry]) -> list[bool]:
        try:
            answers = await self._client.write(WRITE, term, _BOUNDS, *flat(map(call, entries)))
        except RefusedError as error:
            raise _stale(term, error) from error
        return [bool(answer) for answer in answers]

    async def changes(self) -> State | None:
        if self._seen is not None and await self._history.number("version") == self._seen:
            return None
        return self._state(await self._client.run(STATE))

    async def prune(self, before: datetime, at_most: int) -> int:
        return int(await self._client.write(PRUNE, to_us(before), at_most, at_most * LOOKED_AT))

    # --- any worker's ----------------------------------------------------------------------------------------------

    async def request(self, action: Action, *, job_id: str | None = None, term: int | None = None) -> int:
        known = [] if job_id is None else [("known", job_id)]
        asked = ("request", action.value, job_id, term, to_us(self._clock.now()))
        return (await self._write([*known, asked, _CHANGE], job_id))[-2]

    async def pause(self, job_id: str, paused: bool) -> None:
        change = ("pause" if paused else "resume", job_id, to_us(self._clock.now()))
        await self._write([("known", job_id), change, _CHANGE], job_id)

    async def store_job(self, job_id: str, trigger: Mapping[str, Any], job: StoredJob, *, replace: bool) -> None:
        now = self._clock.now()

        def plan(found: JobState | None) -> list[tuple[Any, ...]]:
            since = now if (built := build(trigger, now)) is None else owes_from(built, now)
            calls: list[tuple[Any, ...]] = []
            if found is not None and found.retired_at is None and not found.removed:
                if found.stored is None:
                    raise JobDefinitionError(f"there is a job {job_id!r} in the code already; choose another id")
                if not replace:
                    raise JobDefinitionError(f"there is a job {job_id!r} already; choose another id, or replace=True")
                calls, until = _give_up(found, now)
                since = max(since, until)
            elif found is not None:
                since = max(since, found.settled_until)
                calls = [("set", job_id, "paused_at", "", "resume_at", "")]
            texts = (job.func, json.dumps(dict(job.kwargs)), json.dumps(dict(job.options)))
            return [
                *calls,
                call(RegisterJob(job_id, trigger, at=now, since=since)),
                ("set", job_id, "func", texts[0], "kwargs", texts[1], "options", texts[2]),
                ("set", job_id, "removed", "", "broken", ""),
            ]

        await self._replan(job_id, plan)

    async def remove_job(self, job_id: str) -> None:
        now = self._clock.now()

        def plan(found: JobState | None) -> list[tuple[Any, ...]]:
            if found is None or found.stored is None or found.removed:
                raise UnknownJobError(f"no job {job_id!r} was added at run time")
            calls, _ = _give_up(found, now)
            return [*calls, ("close", job_id, to_us(now)), ("set", job_id, "removed", "1")]

        await self._replan(job_id, plan)

    # --- history ---------------------------------------------------------------------------------------------------

    async def jobs(self) -> list[JobState]:
        return [job_state(row) for row in await self._history.jobs()]

    async def last_outcomes(self) -> dict[str, RunRow]:
        return await self._history.last_outcomes()

    async def runs(
        self,
        *,
        job_id: str | None = None,
        tag: str | None = None,
        outcome: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[RunRow]:
        return await self._history.runs(job_id, tag, outcome, before, limit)

    async def skips(
        self, *, job_id: str | None = None, tag: str | None = None, before: int | None = None, limit: int = 100
    ) -> list[SkipRow]:
        return await self._history.skips(job_id, tag, before, limit)

    async def terms(self, *, before: int | None = None, limit: int = 100) -> list[TermRow]:
        return await self._history.terms(before, limit)

    async def window(self, since: datetime, until: datetime, limit: int) -> Window:
        return await self._history.window(since, until, limit)

    async def epochs(self) -> list[Epoch]:
        return await self._history.epochs()

    async def accounts(self, job_id: str, first: datetime, last: datetime) -> Accounts:
        return await self._history.accounts(job_id, first, last)

    async def odd_claims(self) -> list[OddClaim]:
        return await self._history.odd_claims()

    async def open_runs(self) -> list[OpenRun]:
        names = await self._client.read("ZRANGE", f"{self._prefix}open", 0, -1)
        return [open_run(row) for row in await self._history.rows("run", names)]

    async def totals(self) -> Totals:
        return await self._history.totals()

    async def pruned_until(self) -> datetime:
        return to_time(await self._history.number("pruned"))

    async def integrity(self) -> list[str]:
        return []  # a server looks after its own

    # --- inside ----------------------------------------------------------------------------------------------------

    def _state(self, found: Any) -> State:
        version, jobs, requests, runs = found
        self._seen = int(version)
        states = sorted((job_state(to_dict(row)) for row in jobs), key=lambda job: job.id)
        return State(states, [request(to_dict(row)) for row in requests], [open_run(to_dict(row)) for row in runs])

    async def _write(self, calls: Sequence[tuple[Any, ...]], job_id: str | None = None) -> list[int]:
        """Write what needs no term."""
        try:
            answers: list[int] = await self._client.write(WRITE, "", _BOUNDS, *flat(calls))
        except RefusedError as error:
            if error.name != "UNKNOWN":
                raise
            raise UnknownJobError(f"there is no job {job_id!r} in this pool") from error
        if calls[-1] == _CHANGE and answers[-1] - 1 == self._seen:
            self._seen = answers[-1]  # by ourselves
        return answers

    async def _replan(self, job_id: str, plan: Callable[[JobState | None], list[tuple[Any, ...]]]) -> None:
        """Write what ``plan`` makes of the job as it stands; anew, if it was changed meanwhile."""
        for _ in range(TRIES):
            rows = await self._history.rows("job", [job_id])
            row = rows[0] if rows else {}
            expected = [row.get(name) for name in ("accounted_until", "seen_at", "retired_at", "removed", "paused_at")]
            try:
                calls = plan(job_state(row) if row else None)
                await self._write([("expect", job_id, *expected), *calls, _CHANGE])
            except RefusedError:
                continue
            return
        raise LedgerError(f"the job {job_id!r} is changed all the time")


def _give_up(job: JobState, now: datetime) -> tuple[list[tuple[Any, ...]], datetime]:
    """What the job's schedule owed until now will have no run; also until when it is accounted for."""
    over = given_up(job, now)
    return ([], job.settled_until) if over is None else ([call(over)], over.last_due)


def _stale(term: int, error: RefusedError) -> StaleTermError:
    if error.name == "BEGUN":
        return StaleTermError(f"term {term} was begun by pid {error.what} already")
    return StaleTermError(f"term {term} is over: term {error.what} has begun")
