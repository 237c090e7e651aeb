"""Ours with all that it serves, and the bare route beside it."""

from __future__ import annotations

from .bare import bare
from .ours import app, election

app.include_router(election.metrics)
app.get("/bare")(bare)
