"""An application as a user writes it: the eight lines of the README."""

import os

from fastapi import FastAPI

from election import Election

election = Election(os.environ["POOL"])


@election.scheduled_job("cron", second="*")
async def report() -> None: ...


app = FastAPI(lifespan=election.lifespan)
app.include_router(election.router)
