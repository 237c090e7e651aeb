"""A FastAPI application whose scheduled jobs run once, however many workers serve it."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from . import first_steps, kill_leader
from .jobs import election, settings
from .loopback import is_loopback

app = FastAPI(title="election demonstration", lifespan=election.lifespan)
app.include_router(election.router)
app.include_router(election.metrics)
app.include_router(election.health)
election.on_event(first_steps.show)
if is_loopback(settings.host):
    app.include_router(kill_leader.router)


@app.get("/")
async def index(request: Request) -> Response:
    """The live page for a browser, and the addresses of the documents for others."""
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse("leader/live")
    places = {"page": "/leader/live", "leader": "/leader", "metrics": "/metrics", "ready": "/readyz", "docs": "/docs"}
    return JSONResponse(places)
