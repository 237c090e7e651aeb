"""Leader election within a worker pool, so that scheduled jobs run once per tick and not once per worker."""

from .core.errors import (
    ConfigurationError,
    ElectionError,
    JobDefinitionError,
    LedgerError,
    LedgerVersionError,
    NotStartedError,
    PoolInUseError,
    PoolPathError,
    RunError,
    SeatError,
    SeatLostError,
    StaleTermError,
    UnknownEngineError,
    UnknownJobError,
)
from .election import Election
from .schedule.run import Run, current_run

__all__ = [
    "ConfigurationError",
    "Election",
    "ElectionError",
    "JobDefinitionError",
    "LedgerError",
    "LedgerVersionError",
    "NotStartedError",
    "PoolInUseError",
    "PoolPathError",
    "Run",
    "RunError",
    "SeatError",
    "SeatLostError",
    "StaleTermError",
    "UnknownEngineError",
    "UnknownJobError",
    "current_run",
]
