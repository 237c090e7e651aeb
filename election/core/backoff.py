"""Back-off for repeated failures, and which of them to log."""

from __future__ import annotations

RETRY_MAX_DELAY_S = 5.0
"""Longest delay between two tries at a seat or a ledger that cannot be reached."""

LOG_EVERY = 10


def backoff_s(first_delay_s: float, retries: int, max_delay_s: float = RETRY_MAX_DELAY_S) -> float:
    """Return the delay before the next try in seconds: twice as long each time, up to a limit.

    Args:
        first_delay_s: Delay before the first retry in seconds.
        retries: Retries that have failed so far.
        max_delay_s: The limit in seconds.
    """
    return min(first_delay_s * 2.0 ** min(retries, 60), max_delay_s)  # more doublings than any limit allows


def is_logged(failures: int) -> bool:
    """Return whether to log the latest of ``failures`` in a row: the first, then every tenth."""
    return failures == 1 or failures % LOG_EVERY == 0
