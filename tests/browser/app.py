"""What the browser looks at: jobs that run, fail, take long and are skipped, and one with a name that means harm."""

from __future__ import annotations

import asyncio
import os
import time

from fastapi import FastAPI

from election import Election, current_run
from tests.browser.harm import HOSTILE

election = Election(os.environ["ELECTION_POOL"], fence_after=float(os.environ.get("ELECTION_FENCE_AFTER", "0")) or None)


@election.scheduled_job("interval", seconds=1, id="report")
async def report() -> None:
    """Each second."""


@election.scheduled_job("interval", seconds=3, id="refresh_prices")
async def refresh_prices() -> None:
    await asyncio.sleep(0.4)


@election.scheduled_job("interval", seconds=4, id="sync_inventory", max_instances=1)
def sync_inventory() -> None:
    """At times it takes longer than until the next one is due."""
    time.sleep(5.5 if current_run().due.second % 20 < 4 else 1.2)


@election.scheduled_job("interval", seconds=7, id="send_invoices")
async def send_invoices() -> None:
    if current_run().due.second % 2:
        raise ConnectionError("mail.example:25 refused the connection")


if os.environ.get("HOSTILE"):

    @election.scheduled_job("interval", seconds=1, id=HOSTILE, name=HOSTILE)
    async def hostile() -> None:
        raise ValueError(HOSTILE)


app = FastAPI(lifespan=election.lifespan)
app.include_router(election.router)
