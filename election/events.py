"""Events that ``Election.on_event`` passes to hooks, for applications to match on."""

from .core.events import (
    Deposed,
    Elected,
    Event,
    Fenced,
    JobFailing,
    JobRecovered,
    Resigned,
    RunFailed,
    RunGivenUp,
    RunInterrupted,
    RunLate,
    RunOverlong,
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
    "JobFailing",
    "JobRecovered",
    "Resigned",
    "RunFailed",
    "RunGivenUp",
    "RunInterrupted",
    "RunLate",
    "RunOverlong",
    "RunStarted",
    "RunSucceeded",
    "TickSkipped",
    "TookOver",
]
