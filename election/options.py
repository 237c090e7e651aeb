"""Which options of an Election can work together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .core.errors import ConfigurationError


def check_options(
    heartbeat: float,
    safety_poll: float,
    stalled_after: float,
    drain_timeout: float,
    catch_up_limit: int,
    options: Mapping[str, Any],
) -> None:
    """Raises ``ConfigurationError`` with the way out for what cannot work."""
    if heartbeat <= 0 or safety_poll <= 0:
        raise ConfigurationError("heartbeat and safety_poll are seconds, and more than 0")
    if stalled_after < 2 * heartbeat:
        raise ConfigurationError(
            f"stalled_after={stalled_after:g} would call a healthy leader stalled: give at least two heartbeats"
            f" ({2 * heartbeat:g} s)"
        )
    if drain_timeout < 0:
        raise ConfigurationError("drain_timeout is seconds, and not less than 0")
    if catch_up_limit < 1:
        raise ConfigurationError("catch_up_limit is a number of ticks, and at least 1")
    for name in options.keys() - {"timezone", "job_defaults", "jobstore_retry_interval"}:
        raise ConfigurationError(
            f"scheduler_options[{name!r}] cannot be given: an Election brings its own executor and job store;"
            " what can: timezone, job_defaults"
        )
