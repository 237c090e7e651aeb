"""Log lines by the name of their event, which is the contract; their sentences are not."""

from __future__ import annotations

import logging
from typing import Any

import pytest


def logged(caplog: pytest.LogCaptureFixture, event: str) -> list[logging.LogRecord]:
    """Records of the lines with this event, oldest first."""
    return [record for record in caplog.records if fields(record).get("event") == event]


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """Event of a line with its fields; empty for a line of another package."""
    return dict(vars(record).get("event", {}))
