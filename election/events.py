"""The events that ``Election.on_event`` tells of, for applications to match on."""

from .core.events import (
    Deposed,
    Elected,
    Event,
    Fenced,
    Resigned,
    RunFailed,
    RunGivenUp,
    RunInterrupted,
    RunStarted,
    RunSucceeded,
    TickSkipped,
    TookOver,
)

__all__ = [
    "Deposed",
    "Elected",
    "Event",
    "Fenced",
    "Resigned",
    "RunFailed",
    "RunGivenUp",
    "RunInterrupted",
    "RunStarted",
    "RunSucceeded",
    "TickSkipped",
    "TookOver",
]
