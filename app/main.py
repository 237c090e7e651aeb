"""A FastAPI application whose scheduled jobs run once, however many workers serve it."""

from __future__ import annotations

from fastapi import FastAPI

from .jobs import election

app = FastAPI(title="election demonstration", lifespan=election.lifespan)
app.include_router(election.router)
app.include_router(election.metrics)
app.include_router(election.health)


@app.get("/")
async def index() -> dict[str, str]:
    """Where to look."""
    return {"leader": "/leader", "metrics": "/metrics", "ready": "/readyz", "docs": "/docs"}
