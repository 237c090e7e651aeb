"""History does not grow for ever: what is older than its retention is removed while somebody leads."""

from __future__ import annotations

import logging
from datetime import timedelta

from election.core.clock import Clock
from election.core.errors import LedgerError, LedgerVersionError

from .ledger import Ledger

log = logging.getLogger("election")

EVERY = 60.0
"""Seconds between two looks for old history."""

AT_MOST = 500
PAUSE = 0.1
"""Rows a step, and seconds between two steps: small ones, so that no claim waits long."""


async def keep_pruned(ledger: Ledger, clock: Clock, retention: timedelta | None) -> None:
    """Remove history older than ``retention`` from time to time, for ever; return at once if it is None."""
    while retention is not None:
        await clock.sleep(EVERY)
        try:
            while await ledger.prune(clock.now() - retention, AT_MOST) >= AT_MOST:
                await clock.sleep(PAUSE)
        except (LedgerError, LedgerVersionError) as error:
            log.debug("old history was not removed: %s", error)  # whoever claims meets the same, and tells
