"""election with all of its routes, and the plain route beside them."""

from __future__ import annotations

from .bare import bare
from .ours import app, election

app.include_router(election.metrics)
app.get("/bare")(bare)
