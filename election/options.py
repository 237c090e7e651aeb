"""Which options of an Election can work together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from .core.backend import DEFAULT_TIMING, SeatTiming
from .core.errors import ConfigurationError
from .core.hooks import Hook
from .core.numbers import to_seconds

MIN_HEARTBEATS_PER_FENCE = 4
"""Heartbeats that a leader may miss at least before it is fenced."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of an Election in seconds, as described in ``Election``.

    Raises ``ConfigurationError`` with the way out for times that cannot work together.
    """

    heartbeat: float
    stalled_after: float
    fence_after: float | None
    drain_timeout: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "stalled_after", to_seconds(self.stalled_after, "stalled_after"))
        object.__setattr__(self, "drain_timeout", to_seconds(self.drain_timeout, "drain_timeout", at_least=0))
        if self.stalled_after < 2 * self.heartbeat:
            raise ConfigurationError(
                f"stalled_after={self.stalled_after:g} would call a healthy leader stalled: give at least two"
                f" heartbeats ({2 * self.heartbeat:g} s)"
            )
        if self.fence_after is not None and self.fence_after < MIN_HEARTBEATS_PER_FENCE * self.heartbeat:
            raise ConfigurationError(
                f"fence_after={self.fence_after:g} would end a healthy leader: give at least"
                f" {MIN_HEARTBEATS_PER_FENCE} heartbeats ({MIN_HEARTBEATS_PER_FENCE * self.heartbeat:g} s), or None to"
                " end none"
            )


def engine_timing(own: SeatTiming, given: SeatTiming, **others: bool) -> SeatTiming:
    """Intervals of an Election on an engine object: the engine's own.

    Args:
        own: Intervals of the engine.
        given: Intervals that the Election was given, or their defaults.
        others: Whether each other option of ``open_engine`` was given, by its name.

    Raises:
        ConfigurationError: An option was given that would have no effect on the engine.
    """
    differing = [
        name
        for name in ("heartbeat", "safety_poll", "fence_after")
        if getattr(given, name) not in {getattr(own, name), getattr(DEFAULT_TIMING, name)}
    ]
    if refused := [name for name, is_given in others.items() if is_given] + differing:
        raise ConfigurationError(
            f"{', '.join(f'{name}=' for name in refused)} cannot be given beside an engine object: the engine has been"
            " made already, and they would have no effect; pass them to open_engine() where it is made"
        )
    return own


def parse_notify(notify: Hook | Iterable[Hook] | None) -> list[Hook]:
    """Functions that get the alerts. Raises ``ConfigurationError`` for what cannot be called, as a URL."""
    if notify is None:
        return []
    is_one = callable(notify) or isinstance(notify, str) or not isinstance(notify, Iterable)
    functions: list[Any] = [notify] if is_one else list(notify)  # type: ignore[arg-type]
    for each in functions:
        if not callable(each):
            raise ConfigurationError(
                f"notify={each!r} is no function: give one that takes an event and sends it, def notify(event): …"
                " (docs/guides/alerts.md has recipes for webhooks and others)"
            )
    return functions


def parse_retention(retention: timedelta | None) -> timedelta | None:
    """How long history is kept; None for ever. Raises ``ConfigurationError`` for a time that cannot work."""
    if retention is not None and not (isinstance(retention, timedelta) and retention > timedelta(0)):
        raise ConfigurationError(
            f"retention is a timedelta of more than 0, or None to keep the history for ever, not {retention!r}:"
            " retention=timedelta(days=30)"
        )
    return retention


def parse_scheduler_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options of each term's scheduler. Raises ``ConfigurationError`` for one that an Election cannot pass on."""
    if not isinstance(options or {}, Mapping):
        raise ConfigurationError(f"scheduler_options is a dictionary of options by name, not {options!r}")
    parsed = dict(options or {})
    for name in parsed.keys() - {"timezone", "job_defaults", "jobstore_retry_interval"}:
        raise ConfigurationError(
            f"scheduler_options[{name!r}] cannot be given: an Election brings its own executor and job store;"
            " what can: timezone, job_defaults"
        )
    return parsed
