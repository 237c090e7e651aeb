"""The jobs of a pool of real elections, and such an election in a process of its own: another worker.

``python -m tests.engines.conformance.jobs URL OPTIONS`` takes part in the pool, and then does what each line says:
``Election``'s own methods, with arguments in JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from election import Election, Run, current_run

begun: list[Run] = []
"""What this process has run."""


async def note() -> None:
    begun.append(current_run())


async def fail_at_first() -> None:
    await note()
    if current_run().attempt == 1:
        raise RuntimeError("not yet")


async def hang_at_first() -> None:
    """For ever, and once its leader has died not at all."""
    await note()
    if current_run().attempt == 1:
        await asyncio.Event().wait()


def election_on(url: str, **options: Any) -> Election:
    """A worker's part in the pool. ``seldom`` and those after it run when somebody asks for it."""
    election = Election(url, **{"heartbeat": 0.1, "safety_poll": 0.2, **options})
    for often in ("often", "other"):
        election.scheduled_job("interval", seconds=0.2, id=often)(note)
    election.scheduled_job("interval", days=300, id="seldom")(note)
    election.scheduled_job("interval", days=300, id="fragile", retries=2, retry_backoff=0.1)(fail_at_first)
    election.scheduled_job("interval", days=300, id="rerun", rerun_interrupted=True)(hang_at_first)
    election.scheduled_job("interval", days=300, id="given up")(hang_at_first)
    return election


def _another_leads(election: Election) -> bool:
    seen = election._engine.seat.observe()
    return seen.led and seen.record is not None and seen.record.holder.pid != os.getpid()


async def obey(url: str, options: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    async with election_on(url, **options) as election:
        while not (election.is_leader or _another_leads(election)):
            await asyncio.sleep(0.01)
        print(json.dumps("leads" if election.is_leader else "follows"), flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            name, words, arguments = json.loads(line)
            try:
                answer = await getattr(election, name)(*words, **arguments)
            except Exception as error:
                answer = f"{type(error).__name__}: {error}"
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(obey(sys.argv[1], json.loads(sys.argv[2])))
