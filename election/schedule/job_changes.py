"""Group commit of changes of jobs: those that are made while a transaction is under way go into the next one together.

Source of the idea: group commit of databases, for example MySQL's binary log.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from election.core.errors import LedgerError, LedgerVersionError

from .commands import Command, ExpectJob
from .job_info import name_few
from .model import JobState
from .store import LedgerStore, UnmetConditionError

MAX_JOBS_PER_WRITE = 200
"""Jobs that are changed in one transaction: no other process writes meanwhile."""

MAX_TRIES = 20
"""Attempts of a change whose jobs other processes change at the same time."""

MAX_TRIES_TOGETHER = 2
"""Attempts of several changes in one transaction, before they are divided."""

JobPlan = Callable[[JobState | None], list[Command]]
"""Derives the commands of a change from the job, which is None if there is none. Its exceptions are those of the
change.
"""


class JobChanges:
    """Changes of jobs by this process: each reads jobs, decides, and writes if nothing has changed meanwhile.

    Args:
        store: Storage of the ledger.
    """

    def __init__(self, store: LedgerStore) -> None:
        self._store = store
        self._queue: _Queue | None = None

    async def make(self, plans: Mapping[str, JobPlan]) -> None:
        """Write all commands of the plans, by the job's id, or none.

        Raises:
            LedgerError: They cannot be written, or other processes change these jobs all the time.
            Exception: The error of a plan, or of its commands; changes of other callers are made nevertheless.
        """
        loop = asyncio.get_running_loop()
        if self._queue is None or self._queue.loop is not loop:  # a closed loop leaves its task pending
            self._queue = _Queue(self._store, loop)
        await self._queue.append(plans)

    async def close(self) -> None:
        """Cancel the changes that are under way."""
        if self._queue is not None and self._queue.loop is asyncio.get_running_loop():
            await self._queue.close()


class _Queue:
    """Queue of the changes of one event loop, and the task that writes them."""

    def __init__(self, store: LedgerStore, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._store = store
        self._waiting: list[_Change] = []
        self._under_way: list[_Change] = []
        self._task: asyncio.Task[None] | None = None

    def append(self, plans: Mapping[str, JobPlan]) -> asyncio.Future[None]:
        """Add a change; the future ends with it."""
        change = _Change(plans, self.loop.create_future())
        self._waiting.append(change)
        if self._task is None:
            self._start()
        return change.made

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _start(self) -> None:
        self._task = self.loop.create_task(self._write_waiting(), name="election job changes")
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled() or task.exception() is not None:  # perhaps before its first step
            for change in (*self._under_way, *self._waiting):
                change.made.cancel()
            self._waiting = []
        elif self._waiting:
            self._start()
        self._under_way = []

    async def _write_waiting(self) -> None:
        while self._waiting:
            self._under_way = self._next_group()
            await self._write(self._under_way)

    def _next_group(self) -> list[_Change]:
        """Take the first changes that wait, of different jobs, and as many as one transaction may have."""
        ids: set[str] = set()
        number = 0
        for change in self._waiting:
            if number and (len(ids) + len(change.plans) > MAX_JOBS_PER_WRITE or not ids.isdisjoint(change.plans)):
                break
            ids.update(change.plans)
            number += 1
        group, self._waiting = self._waiting[:number], self._waiting[number:]
        return group

    async def _write(self, group: Sequence[_Change]) -> None:
        """Write changes in one transaction; in smaller ones if one of them keeps the others from being written."""
        ids = [job_id for change in group for job_id in change.plans]
        for _ in range(MAX_TRIES if len(group) == 1 else MAX_TRIES_TOGETHER):
            try:
                found = {job.id: job for job in await self._store.find_jobs(ids)}
                if commands := [command for change in group for command in change.commands(found)]:
                    await self._store.write(commands, term=None)
            except UnmetConditionError:
                continue
            except (LedgerError, LedgerVersionError) as error:
                for change in group:
                    change.fail(error if len(group) == 1 else _copy(error))
            except Exception as error:
                if len(group) > 1:
                    break
                group[0].fail(error)
            else:
                for change in group:
                    change.succeed()
            return
        if len(group) > 1:
            middle = len(group) // 2
            await self._write(group[:middle])
            await self._write(group[middle:])
        else:
            names = name_few(ids)
            group[0].fail(LedgerError(f"other processes keep changing at least one of these jobs; try again: {names}"))


@dataclass(frozen=True, slots=True)
class _Change:
    """Plans of one change, and the future of its end."""

    plans: Mapping[str, JobPlan]
    made: asyncio.Future[None]

    def commands(self, found: Mapping[str, JobState]) -> list[Command]:
        """Return all commands; none if the caller was cancelled, or a plan raises, which ends the change."""
        commands: list[Command] = []
        try:
            for job_id, plan in self.plans.items() if not self.made.done() else ():
                if planned := plan(found.get(job_id)):
                    commands += [ExpectJob(job_id, found.get(job_id)), *planned]
        except Exception as error:
            self.fail(error)
            return []
        return commands

    def succeed(self) -> None:
        if not self.made.done():
            self.made.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.made.done():
            self.made.set_exception(error)


def _copy(error: Exception) -> Exception:
    """Copy of an error that several callers get: each adds to its own traceback."""
    copied = copy.copy(error)
    copied.__cause__ = error
    return copied
