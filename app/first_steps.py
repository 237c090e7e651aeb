"""Three lines for a visitor: where the page is, when the next report comes, and how to see a failover."""

from __future__ import annotations

import logging

from election import ElectionError
from election.events import Elected, Event, TookOver

from .jobs import election, settings
from .loopback import is_loopback

log = logging.getLogger("app")

REPORT = "app.jobs:report"

ANSWER_S = 5.0
"""Time limit in seconds for reading from the ledger when the next report is due."""


def show(event: Event) -> None:
    """Log the lines when this worker begins to lead."""
    if isinstance(event, Elected | TookOver):
        log.info("watch:    http://%s:%d/leader/live", settings.host, settings.port)
        log.info("expect:   %s", _next_report())
        button = f", or the button at http://{settings.host}:{settings.port}/kill" if is_loopback(settings.host) else ""
        log.info("failover: kill -9 %d%s", event.pid, button)


def _next_report() -> str:
    try:
        ticks = election.jobs.next(REPORT, limit=1).result(ANSWER_S)
    except (ElectionError, TimeoutError):  # no reason for the demonstration to fail
        ticks = []
    return f"the next report at {ticks[0].local:%H:%M:%S}" if ticks else "a report in seconds 0 to 30 of each minute"
