"""Facts about the application that the files in deploy/ refer to."""

from __future__ import annotations

import run
from app.main import app
from app.settings import Settings
from election.membership import RELEASE_GRACE_S
from election.web.router import TOKEN

STOP_S = run.GRACEFUL_SHUTDOWN + Settings.model_fields["drain_timeout"].default + RELEASE_GRACE_S
"""Longest time of a stop: open connections, the drain, and the release of the seat."""

SETTINGS = {f"ELECTION_{name.upper()}" for name in Settings.model_fields}
"""Environment variables that run.py reads."""

SECRETS = {TOKEN, "PGPASSWORD"}
"""Environment variables that no file may give a value; libpq reads the second."""


def paths() -> set[str]:
    """Paths of the application's routes."""
    return set(app.openapi()["paths"])
