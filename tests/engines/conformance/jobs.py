"""Jobs of a pool of real elections, and such an election as a worker with ``Commands``."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import nullcontext
from typing import Any

import psycopg  # noqa: F401  before the fork, as an application does, and not in the middle of a takeover

from election import Election, Run, current_run
from tests.engines.conformance.engines import patience
from tests.support.fork_server import follow

begun: list[Run] = []
"""Runs in this process."""


async def note() -> None:
    begun.append(current_run())


async def fail_at_first() -> None:
    await note()
    if current_run().attempt == 1:
        raise RuntimeError("not yet")


async def hang_at_first() -> None:
    """Run for ever in the first term, and return at once in later ones."""
    await note()
    if current_run().attempt == 1:
        await asyncio.Event().wait()


def election_on(url: str, *, version: str | None = None, patient: bool = True, **options: Any) -> Election:
    """The worker's part in the pool. ``seldom`` and the jobs after it run on request.

    version: name of an additional job. patient: see ``patience``.
    """
    with patience() if patient else nullcontext():
        election = Election(url, **{"heartbeat": 0.1, "safety_poll": 0.2, **options})
    for often in ("often", "other"):
        election.scheduled_job("interval", seconds=0.2, id=often)(note)
    election.scheduled_job("interval", days=300, id="seldom")(note)
    election.scheduled_job("interval", days=300, id="fragile", retries=2, retry_backoff=0.1)(fail_at_first)
    election.scheduled_job("interval", days=300, id="rerun", rerun_interrupted=True)(hang_at_first)
    election.scheduled_job("interval", days=300, id="given up")(hang_at_first)
    if version is not None:
        election.scheduled_job("interval", seconds=0.2, id=version, misfire_grace_time=None)(note)
    return election


async def _another_leads(election: Election) -> bool:
    seen = await election._engine.seat.observe()
    return seen.led and seen.record is not None and seen.record.holder.pid != os.getpid()


class Commands:
    """Commands of a worker with an ``Election``."""

    def __init__(self, election: Election) -> None:
        self._election = election

    async def role(self) -> str:
        """``leads`` or ``follows``, as soon as one is true."""
        while not (self._election.is_leader or await _another_leads(self._election)):
            await asyncio.sleep(0.01)
        return "leads" if self._election.is_leader else "follows"

    async def call(self, method: str, words: list[Any], arguments: dict[str, Any]) -> Any:
        """Call a method of the election; return an error as text."""
        try:
            return await getattr(self._election, method)(*words, **arguments)
        except Exception as error:
            return f"{type(error).__name__}: {error}"


async def main(options: dict[str, Any], channel: socket.socket) -> None:
    """See ``tests.support.fork_server``."""
    async with election_on(options["url"], **options["options"]) as election:
        commands = Commands(election)
        await follow(channel, lambda name: getattr(commands, name))
        os._exit(1)  # the test has closed it
