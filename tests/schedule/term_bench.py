"""A worker without an election: terms of a scheduler on a real ledger, in virtual time."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from election.core.events import Event
from election.core.term_context import TermContext
from election.engines.file.ledger import SqliteLedger
from election.schedule.commands import Entry
from election.schedule.history import RunRow
from election.schedule.jobs import JobRegistry
from election.schedule.model import SkipReason, State
from election.schedule.run import Run, current_run
from election.schedule.tasks import TaskRegistry
from election.schedule.term_scheduler import ScheduleOptions, TermScheduler
from election.schedule.verify import verify
from election.testing import ManualClock
from tests.schedule.ledger_thread import LedgerThread
from tests.schedule.making import NOW, make_term

LOOK = 0.02
"""Seconds between two polls of the ledger by a term."""

MINUTES = {"poll_interval": 1.0}
"""Options for a test in which minutes pass: each poll costs real time."""

A_RUN_EACH = {"coalesce": False, "misfire_grace_time": None, "max_instances": 1000}
"""Options of a job whose every tick must have a run: none is too late, and none overlaps."""

FULL = "the disk is full; free some space on its disk"


class FaultyLedger(SqliteLedger):
    """A real ledger that raises ``fault`` instead of being read or written, while ``fault`` is set."""

    def __init__(self, path: str, **options: Any) -> None:
        super().__init__(path, **options)
        self.thread = LedgerThread(self)
        self.fault: Exception | None = None
        self.tried = 0
        self.before_record: Callable[[Sequence[Entry]], Any] | None = None
        self.after_changes: Callable[[State], Any] | None = None

    def _fail(self) -> None:
        self.tried += 1
        if self.fault is not None:
            raise self.fault

    async def begin_term(self, *arguments: Any, **more: Any) -> State:
        self._fail()
        return await super().begin_term(*arguments, **more)

    async def record(self, term: int, entries: Sequence[Entry]) -> list[bool]:
        self._fail()
        if self.before_record is not None:
            await self.before_record(entries)
        return await super().record(term, entries)

    async def changes(self) -> State | None:
        self._fail()
        state = await super().changes()
        if state is not None and self.after_changes is not None:
            await self.after_changes(state)
        return state


class TermBench:
    """A worker without an election: the test begins its terms."""

    def __init__(self, path: Path) -> None:
        self.path = str(path / "ledger.db")
        self.clock = ManualClock(NOW, busy=self.busy)
        self.ledger = FaultyLedger(self.path, clock=self.clock)
        self.others = SqliteLedger(self.path, clock=self.clock)
        self.others_thread = LedgerThread(self.others)
        self.registry = self.new_registry()
        self.options: dict[str, Any] = {}
        self.resigned: list[bool] = []
        self.lost = asyncio.Event()
        self.ran: list[Run] = []
        self.events: list[Event] = []
        self.leading: TermScheduler | None = None
        self.others_differ = False
        """Whether a live worker has other jobs in its code."""
        self.thread_waits = False
        """Whether a job or a module in a thread waits for the test, so that the clock must not wait for it."""

    async def peers_differ(self) -> bool:
        return self.others_differ

    def new_registry(self) -> JobRegistry:
        return JobRegistry({"timezone": "UTC"}, self.clock)

    def busy(self) -> bool:
        """Whether a call waits for the thread of a ledger, or the term for a job or an import in a thread."""
        in_thread = self.leading is not None and (
            bool(list(self.leading._executor._runner.in_threads())) or self.leading._jobs.imports.is_busy
        )
        in_ledger = self.ledger.thread.busy or self.others_thread.busy
        return in_ledger or (in_thread and not self.thread_waits)

    async def until(self, fact: Callable[[], Any], *, limit: float = 60.0) -> Any:
        """Let time pass until ``fact`` is true, for at most ``limit`` seconds of the clock."""
        return await self.clock.advance_until(fact, limit=limit)

    async def wait(self, fact: Callable[[], Any]) -> None:
        """Wait for ``fact`` without moving the clock; for work in a term while the test moves it."""
        while True:
            found = fact()
            if await found if isinstance(found, Awaitable) else found:
                return
            await self.clock.sleep(0.005)

    def handed_over(self, job_id: str) -> datetime:
        """Last tick of a job that the scheduler of the current term has handed over."""
        assert self.leading is not None
        settled_until = self.leading._jobs.progress[job_id].settled_until
        assert settled_until is not None
        return settled_until

    def job(self, func: Any = None, **arguments: Any) -> None:
        """Register a job that records its runs, or ``func``; its id is ``job`` and it is due every 50 ms by default.

        Without ``coalesce`` each tick has a run, however slow the machine is.
        """

        async def note_run() -> None:
            self.ran.append(current_run())

        trigger = arguments.pop("trigger", "interval")
        if trigger == "interval" and "seconds" not in arguments:
            arguments["seconds"] = 0.05
        each = {} if arguments.get("coalesce", True) else A_RUN_EACH
        self.registry.add(func or note_run, trigger, **{"id": "job", **each, **arguments})

    def by_due(self) -> list[Run]:
        """The runs; late ones may have overtaken each other."""
        return sorted(self.ran, key=lambda run: run.due)

    def scheduler(self, number: int) -> TermScheduler:
        options = {"drain_timeout": 10.0, "poll_interval": LOOK, "catch_up_limit": 1000, "retention": None}
        self.lost = asyncio.Event()
        self.context = TermContext(
            make_term(number, pid=os.getpid(), elected_at=self.clock.now()),
            self.lost,
            is_held=lambda: True,
            resign=lambda: self.resigned.append(True),
            emit=self.events.append,
            peers_differ=self.peers_differ,
            takeover_ms=1.5,
        )
        return TermScheduler(
            self.context,
            self.registry,
            TaskRegistry(),
            self.ledger,
            self.clock,
            ScheduleOptions(**{**options, **self.options}, scheduler_options={"timezone": "UTC"}),
        )

    @asynccontextmanager
    async def term(self, number: int = 1) -> AsyncIterator[TermScheduler]:
        """Lead that term; another term can follow."""
        async with self.scheduler(number) as self.leading:
            yield self.leading

    async def runs(self, **filters: Any) -> list[RunRow]:
        """Oldest first."""
        return (await self.others.runs(limit=10_000, **filters))[::-1]

    async def skips(self) -> dict[SkipReason, int]:
        counted: Counter[SkipReason] = Counter()
        for row in await self.others.skips(limit=10_000):
            counted[row.reason] += row.count or 101
        return counted

    async def agrees(self) -> None:
        """Assert that each claim has one run, and that the history keeps P1 to P4."""
        keys = [run.key for run in self.ran if run.attempt == 1]
        assert len(keys) == len(set(keys)), "a tick ran twice"
        recorded = {(run.job_id, run.due, run.request) for run in await self.runs()}
        assert {(run.job_id, run.due, run.request) for run in self.ran} <= recorded, "something ran unclaimed"
        report = await verify(self.others, now=self.clock.now() + timedelta(minutes=1))
        assert report.violations == ()
        assert report.ticks > 0

    async def close(self) -> None:
        await self.ledger.close()
        await self.others.close()


async def looked(bench: TermBench) -> None:
    """Return when the term has polled the ledger twice from now on."""
    tried = bench.ledger.tried
    await bench.until(lambda: bench.ledger.tried >= tried + 2)
