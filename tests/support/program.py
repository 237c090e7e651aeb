"""Program without a web server that takes part in a pool; writes as facts a job each second, and the pool's state."""

from __future__ import annotations

import asyncio
import os
import signal

from election import Election, current_run
from tests.support.facts import write_fact

election = Election(os.environ["ELECTION_POOL"])


@election.scheduled_job("interval", seconds=1, id="tick", misfire_grace_time=120, coalesce=False)
async def tick() -> None:
    run = current_run()
    write_fact("begin", job="tick", term=run.term, due=run.due.isoformat())


async def main() -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with election:
        while not stopped.is_set():
            document = await election._view.document()
            write_fact("seen", leads=election.term, state=document.state, problem=document.problem)
            await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(main())
