"""History does not grow for ever: what is older than its retention is removed while somebody leads."""

from __future__ import annotations

import logging
from datetime import timedelta

from election.core.clock import Clock
from election.core.errors import LedgerError, LedgerVersionError

from .ledger import Ledger

log = logging.getLogger("election")

INTERVAL_S = 60.0
"""Seconds between two looks for old history."""

ROWS_PER_STEP = 500
PAUSE_S = 0.1
"""Rows a step, and seconds between two steps: small ones, so that no claim waits long."""


async def keep_pruned(ledger: Ledger, clock: Clock, retention: timedelta | None) -> None:
    """Remove history older than ``retention`` from time to time, for ever; return at once if it is None."""
    while retention is not None:
        await clock.sleep(INTERVAL_S)
        try:
            while await ledger.prune(clock.now() - retention, ROWS_PER_STEP) >= ROWS_PER_STEP:
                await clock.sleep(PAUSE_S)
        except (LedgerError, LedgerVersionError) as error:
            log.debug("old history was not removed: %s", error)  # whoever claims meets the same, and tells
