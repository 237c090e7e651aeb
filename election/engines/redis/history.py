"""Reads of the history in Redis: bounded steps through the indexes of the rows, latest first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, TypeVar

from election.core.term import Reason
from election.engines.sql.rows import PRUNED, needed, printable, read_counters, readable
from election.engines.sql.values import FIRST_US, LAST_US, parse_log, to_time, to_us
from election.schedule.history import (
    BOUNDS,
    MAX_SKIPPED,
    Epoch,
    Histogram,
    JobOverview,
    RequestRow,
    RunRow,
    Totals,
    Window,
)
from election.schedule.model import JobState, Outcome, RunLog, SkipReason
from election.schedule.store import Filter, Kind

from .client import RedisClient, to_dict
from .rows import (
    WRONG_TYPE,
    audit_row,
    claim_row,
    epochs_of,
    histogram,
    job_state,
    parse_text,
    request_row,
    run_row,
    skip_row,
    term_row,
    to_number,
)
from .scripts import JOBS_AFTER, OVERVIEW, WINDOW

_T = TypeVar("_T")

ROWS_PER_REQUEST = 500
"""Rows that are read in one step."""

MAX_COUNTED_SKIPS = 5000
"""Maximum of skips, and of unsuccessful runs, counted one by one: the server is blocked meanwhile."""

MAX_EARLIER_ROWS = 500
"""Rows before a time range that are searched for runs that extend into it."""


class History:
    """Reads of the ledger under one prefix of keys."""

    def __init__(self, client: RedisClient, prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    async def jobs(self, *, removed: bool = False) -> list[dict[str, str]]:
        """The rows of all jobs, by id; with ``removed``, also of those that were removed or have finished."""
        return await self.rows("job", await self._names(removed=removed))

    async def overview(self, limit: int) -> JobOverview:
        """Up to ``limit`` jobs of the code, and as many that were added at run time."""
        ids, code, stored, count, _settled = await self._client.run(OVERVIEW, limit)
        code_ids = {printable(job_id): parse_text(broken or None) for job_id, broken in to_dict(ids).items()}
        here, added = ([job for job in _jobs(rows) if not job.removed] for rows in (code, stored))
        return JobOverview(here, added, code_ids, len(code_ids) + int(count))

    async def jobs_after(self, job_id: str, limit: int) -> list[JobState]:
        """Up to ``limit`` jobs with larger ids, by id."""
        return _jobs(await self._client.run(JOBS_AFTER, job_id, limit))

    async def _names(self, *, removed: bool) -> list[str]:
        sets = ("jobs", "removed") if removed else ("jobs",)
        return sorted({name for each in sets for name in await self._read("SMEMBERS", each)})

    async def rows(self, kind: str, names: Sequence[Any]) -> list[dict[str, str]]:
        """The rows with these names; missing rows are left out, and one of another type has ``WRONG_TYPE`` alone."""
        found = await self.hashes([f"{kind}:{name}" for name in names])
        return [{**row, "id": str(name)} for name, row in zip(names, found, strict=True) if row]

    async def hashes(self, keys: Sequence[str]) -> list[dict[str, str]]:
        """Fields of hashes; of a key of another type only ``WRONG_TYPE``, with its name."""
        if not keys:
            return []
        answers = await self._answers([("HGETALL", key) for key in keys])
        return [
            {WRONG_TYPE: self._prefix + key} if answer is None else to_dict(answer)
            for key, answer in zip(keys, answers, strict=True)
        ]

    async def _answers(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Answers to commands, each with its key; None for a key of another type. Raises ``LedgerError``."""
        async with self._client.pipeline() as pipe:
            for command, key, *arguments in commands:
                pipe.execute_command(command, self._prefix + key, *arguments)
            answers = await pipe.execute(raise_on_error=False)
            for answer in answers:
                if isinstance(answer, Exception) and "WRONGTYPE" not in str(answer):
                    raise answer
        return [None if isinstance(answer, Exception) else answer for answer in answers]

    async def latest_runs(self, job_ids: Sequence[str]) -> dict[str, RunRow]:
        """The latest run of each of these jobs."""
        if not job_ids:
            return {}
        latest = await self._answers([("ZREVRANGE", f"run_dues:{job_id}", 0, 0) for job_id in job_ids])
        members = chain.from_iterable(filter(None, latest))
        rows = await self.rows("run", [member.partition(":")[2] for member in members])
        return {run.job_id: run for run in readable(run_row, rows)}

    async def page(self, kind: Kind, where: Filter, before: int | None, limit: int) -> list[Any]:
        """Rows, latest first."""
        if kind == Kind.TERM:
            return await self._page("term", ["terms"], before, limit, term_row)
        if kind == Kind.REQUEST:
            return await self._requests(before, limit)
        if kind == Kind.CLAIM:
            return await self._page("run", ["runs"], before, limit, claim_row)
        if kind == Kind.LOG:
            return await self._logs(where.run, before, limit)
        indexes = await self._indexes(f"{kind}s", where.job_id, where.tag)
        if kind == Kind.AUDIT:
            return await self._page("audit", indexes, before, limit, audit_row)
        if kind == Kind.SKIP:
            return await self._page("skip", indexes, before, limit, skip_row)
        if indexes == ["runs"] and where.outcome in {"running", "failed", "interrupted"}:
            indexes = ["open" if where.outcome == "running" else "troubled"]
        wanted = None if where.outcome == "running" else where.outcome
        fits = None if where.outcome is None else lambda run: run.outcome == wanted
        return await self._page("run", indexes, before, limit, run_row, fits)

    async def window(self, since: datetime, until: datetime, limit: int) -> Window:
        times = since, until, limit
        runs, runs_every, first, counts = await self._stretch("run", "at", *times, MAX_EARLIER_ROWS, "ended_at")
        skips, skips_every, _, skipped = await self._stretch("skip", "at", *times, 0, "")
        terms, _, begun, _ = await self._stretch("term", "began_at", *times, 1, "")
        open_rows = await self.rows("run", await self._read("ZREVRANGE", "open", 0, limit - 1))
        by_seq = {run.seq: run for run in readable(run_row, runs)}
        by_seq |= {run.seq: run for run in readable(run_row, open_rows) if run.claimed_at <= until}
        begins = readable(_time, [moment for moment in (first, begun) if moment])
        return Window(
            terms=sorted(readable(term_row, terms), key=lambda term: -term.term)[:limit],
            runs=[by_seq[seq] for seq in sorted(by_seq, reverse=True)],
            skips=sorted(readable(skip_row, skips), key=lambda skip: -skip.seq),
            runs_every=runs_every,
            skips_every=skips_every,
            counts=None if counts is None or skipped is None else counts | skipped,
            begins=min(begins, default=None),
        )

    async def epochs(self) -> list[Epoch]:
        rows = await self.rows("epochs", await self._names(removed=True))
        return [epoch for row in rows for epoch in needed(epochs_of, row, f"a schedule of job {printable(row['id'])}")]

    async def totals(self) -> Totals:
        """Read all counters, and of the jobs the latest time until which one is settled, without what is unreadable."""
        code_ids, *_, settled_until = await self._client.run(OVERVIEW, 0)
        code = to_dict(code_ids)
        [labels] = await self._answers([("SMEMBERS", "counted")])
        labels = sorted({*code, *(labels or ())})
        counted = {printable(row.pop("id")): row for row in await self.rows("totals", labels)}
        [pool] = await self.hashes(["totals"])
        found = {_counter(job_id, name): count for job_id, row in counted.items() for name, count in row.items()}
        begun = {_counter("", name): count for name, count in pool.items()}
        return Totals(
            jobs=sorted(map(printable, code)),
            runs=read_counters(found, "runs", Outcome, int),
            skips=read_counters(found, "skips", SkipReason, int),
            lateness=_histograms(counted, "lateness"),
            durations=_histograms(counted, "duration"),
            terms={reason: count for (_, reason), count in read_counters(begun, "terms", Reason, int).items()},
            takeover=_histograms({"": pool}, "takeover").get("", Histogram([0] * (len(BOUNDS) + 1), 0.0)),
            vacant_s={reason: s for (_, reason), s in read_counters(begun, "vacant", Reason, to_number).items()},
            last_success={job_id: at for (job_id, _), at in read_counters(found, "success", str, _time).items()},
            settled_until=await self._settled_until(settled_until),
        )

    async def _settled_until(self, latest: str) -> datetime | None:
        """The latest time until which a job is settled, given that of the index, which may be later than any time."""
        if latest and float(latest) >= LAST_US:
            earlier = await self._read("ZREVRANGEBYSCORE", "settled", f"({LAST_US}", FIRST_US, "LIMIT", 0, 1)
            latest = str(await self._read("ZSCORE", "settled", earlier[0])) if earlier else ""
        return max(readable(lambda us: to_time(int(float(us))), [latest] if latest else []), default=None)

    async def _requests(self, before: int | None, limit: int) -> list[RequestRow]:
        """Requests are numbered without gaps; the oldest have been pruned."""
        last = await self.number("request_seq") if before is None else before - 1
        names = range(last, max(0, last - limit), -1)
        return readable(request_row, await self.rows("request", names))

    async def _logs(self, run: int, before: int | None, limit: int) -> list[RunLog]:
        [texts] = await self.hashes([f"log:{run}"])
        logs = readable(lambda attempt: parse_log(int(attempt), texts[attempt]), texts)
        earlier = [log for log in logs if before is None or log.attempt < before]
        return sorted(earlier, key=lambda log: -log.attempt)[:limit]

    async def number(self, key: str) -> int:
        """Number stored under ``key``; 0 if there is none. Raises ``LedgerError`` for others."""
        return needed(int, await self._read("GET", key) or "0", f"the number {key!r}")

    async def pruned_until(self) -> datetime:
        """The time before which history was removed. Raises ``LedgerError`` if it cannot be read."""
        return needed(_time, await self._read("GET", "pruned") or "0", PRUNED)

    async def _read(self, command: str, key: str, *arguments: Any) -> Any:
        return await self._client.read(command, self._prefix + key, *arguments)

    async def _indexes(self, kind: str, job_id: str | None, tag: str | None) -> list[str]:
        """The indexes to read: that of all rows, or those of some jobs."""
        if tag is None:
            return [kind if job_id is None else f"{kind}:{job_id}"]
        tagged = [job.id for job in map(job_state, await self.jobs()) if job.info and tag in job.info.tags]
        return [f"{kind}:{name}" for name in tagged if job_id in {None, name}]

    async def _page(
        self,
        kind: str,
        indexes: Collection[str],
        before: int | None,
        limit: int,
        convert: Callable[[dict[str, str]], _T],
        fits: Callable[[_T], bool] | None = None,
    ) -> list[_T]:
        """Rows from the indexes, latest first, read in steps until enough of them fit."""
        found: list[_T] = []
        while indexes and len(found) < limit:
            step = ROWS_PER_REQUEST if fits else min(ROWS_PER_REQUEST, limit - len(found))
            async with self._client.pipeline() as pipe:
                for index in indexes:
                    end = "+inf" if before is None else f"({before}"
                    pipe.execute_command("ZREVRANGEBYSCORE", self._prefix + index, end, "-inf", "LIMIT", 0, step)
                names = sorted({int(name) for part in await pipe.execute() for name in part}, reverse=True)[:step]
            if not names:
                break
            before = names[-1]
            rows = readable(convert, await self.rows(kind, names))
            found += [row for row in rows if fits is None or fits(row)]
        return found[:limit]

    async def _stretch(
        self, kind: str, time: str, since: datetime, until: datetime, limit: int, before: int, end: str
    ) -> tuple[list[dict[str, str]], int, str | None, dict[str, int] | None]:
        """Sampled rows of a time range, the sampling interval, the time of the oldest row of all, and the counts."""
        every, oldest, rows, counts = await self._client.run(
            WINDOW, f"{kind}s", f"{kind}:", time, to_us(since), to_us(until), limit, before, end, MAX_COUNTED_SKIPS,
            FIRST_US, LAST_US, MAX_SKIPPED,
        )  # fmt: skip
        counted = None if counts is None else {name: int(number) for name, number in to_dict(counts).items()}
        return [to_dict(row) for row in rows], int(every), oldest, counted


def _jobs(rows: Sequence[Any]) -> list[JobState]:
    """Jobs by an index, which may list a job that a worker of an earlier version, without indexes, has removed."""
    return [job_state(to_dict(row)) for row in rows]


def _counter(job_id: str, name: str) -> tuple[str, str, str]:
    what, _, label = name.partition(" ")
    return what, job_id, label


def _histograms(counted: Mapping[str, dict[str, str]], what: str) -> dict[str, Histogram]:
    """Histograms of one kind by job, of the jobs that have one which can be read."""
    found = readable(lambda job_id: (job_id, histogram(counted[job_id], what)), counted)
    return {job_id: each for job_id, each in found if each is not None}


def _time(us: str) -> datetime:
    return to_time(int(us))
