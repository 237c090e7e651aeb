"""An application that knows its users by a cookie, for pools whose routes it protects itself."""

from __future__ import annotations

import os
from typing import Annotated

from fastapi import Cookie, Depends, FastAPI, HTTPException

from election import Election

election = Election(os.environ["ELECTION_POOL"], heartbeat=0.1)


@election.scheduled_job("interval", hours=1, id="job", tags=["nightly"])
async def job() -> None:
    """A job that runs on request."""


async def user(user: Annotated[str | None, Cookie()] = None) -> str:
    if user is None:
        raise HTTPException(401, "log in first")
    return user


async def admin(user: Annotated[str, Depends(user)]) -> str:
    if not user.startswith("admin"):
        raise HTTPException(403, "for administrators")
    return user


app = FastAPI(lifespan=election.lifespan)
app.include_router(election.routes(read=user, control=admin))
