"""Log lines by the name of their event, which is the contract; their sentences are not."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest


def logged(caplog: pytest.LogCaptureFixture, event: str) -> list[logging.LogRecord]:
    """Records of the lines with this event, oldest first."""
    return [record for record in caplog.records if fields(record).get("event") == event]


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """Event of a line with its fields; empty for a line of another package."""
    return dict(vars(record).get("event", {}))


def events_in(log: Path) -> list[dict[str, Any]]:
    """Events in the log of a pool with ``ELECTION_LOG_FORMAT=json``, oldest first; ``by``: the pid of the worker."""
    complete, _, _ = log.read_text().rpartition("\n")
    lines = [json.loads(line) for line in complete.splitlines() if line.startswith("{")]
    return [line["event"] | {"by": line["pid"]} for line in lines if "event" in line]
