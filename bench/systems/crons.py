"""fastapi-crons as its README shows it; the environment selects whether it takes a Redis lock for each run."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi_crons import Crons

from bench.facts import tell

from .job import tick

app = FastAPI()
crons = Crons(app)


@crons.cron("* * * * * *", name="tick")
async def each_second() -> None:
    await tick()


tell("ready")
