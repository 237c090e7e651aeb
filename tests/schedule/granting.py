"""An executor without a ledger: each claim is granted in the next turn of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from election.core.clock import Clock
from election.core.events import Event
from election.schedule.commands import Entry
from election.schedule.executor import TermExecutor
from election.schedule.job_runner import JobRunner
from election.schedule.model import Action, Request
from election.schedule.progress import JobProgress
from election.schedule.reporting import RunReporter
from tests.schedule.making import make_job


class Granting:
    """A ledger's writer that grants all claims, and keeps the results."""

    def __init__(self) -> None:
        self.written: list[Entry] = []

    def claim(
        self, entries: Sequence[Entry], on_done: Callable[[asyncio.Future[list[bool]]], object]
    ) -> asyncio.Future[list[bool]]:
        granted: asyncio.Future[list[bool]] = asyncio.get_running_loop().create_future()

        def grant() -> None:
            granted.set_result([True] * len(entries))
            on_done(granted)

        asyncio.get_running_loop().call_soon(grant)
        return granted

    def holds_seat(self) -> bool:
        return True

    def append(self, *entries: Entry) -> None:
        self.written += entries


class GrantedRuns:
    """Runs a job each time that it is asked for; ``max_threads`` is 1."""

    def __init__(self, func: Callable[..., Any], clock: Clock, **arguments: Any) -> None:
        self.progress = JobProgress(make_job("interval", func, seconds=60, **arguments))
        self.runner = JobRunner(1, clock)
        self.events: list[Event] = []
        self.writer = Granting()
        self._clock = clock
        jobs = {"job": self.progress}
        reporter = RunReporter(1, clock, self.events.append)
        writer: Any = self.writer
        self.executor = TermExecutor(1, writer, clock, jobs, reporter, self.runner, lambda _: None, lambda _: None)

    def ask(self, number: int = 1) -> None:
        """Ask for a run; its claim is granted in the next turn."""
        self.executor.run_now(self.progress, Request(number, Action.RUN, "job", None, self._clock.now()))
