"""Tree of all exceptions of this package; a test compares it with the code.

ElectionError                   base class
├── ConfigurationError          fails the start and cannot pass by itself; also a ValueError
│   ├── JobDefinitionError      a job or task was registered with wrong arguments
│   ├── LedgerVersionError      this code cannot read the ledger's schema
│   ├── PoolInUseError          this process already takes part in that pool
│   ├── PoolPathError           the pool directory cannot hold a pool
│   └── UnknownEngineError      no engine for that URL
├── LedgerError                 the ledger cannot be read or written now: retried
│   └── LedgerBusyError         internal: another process keeps it locked
├── NotStartedError             the Election has not been started
├── SeatError                   the seat cannot be reached now: shown in /leader, retried
│   └── SeatLostError           the holder has lost its seat: the term ends
├── StaleTermError              a later term has begun: a write of this one was refused
├── RunError                    a requested run did not succeed, or there was no run
├── UnfinishedJobsError         job code still runs at the end of its term
├── UnknownJobError             no job has that id; also a LookupError
├── RefusedError                internal: a script of Redis refused a write
├── SearchLimitError            internal: the search for a trigger's next tick reached its limit
├── TriggerError                internal: a trigger that cannot be used
├── UnmetConditionError         internal: a conditional write of the ledger found that the job has changed
└── UnstableTriggerError        internal: a trigger that differs between processes; also a ValueError

The internal ones are caught within the package and reported as one of the others, or as a
``JobDefinitionError`` (``UnstableTriggerError``, ``SearchLimitError``, ``TriggerError``).
"""

from __future__ import annotations


class ElectionError(Exception):
    """Base class of all exceptions of this package."""


class ConfigurationError(ElectionError, ValueError):
    """An error that cannot pass by itself; raised at start, before anything runs."""


class PoolPathError(ConfigurationError):
    """The pool directory cannot hold a pool: not private, not ours, not a directory, or flock means nothing there."""


class PoolInUseError(ConfigurationError):
    """A second Election was started on one pool in one process; a process has one vote."""


class UnknownEngineError(ConfigurationError):
    """There is no engine for the URL that was given as the pool."""


class JobDefinitionError(ConfigurationError):
    """A job or a ``while_leading`` task was registered with arguments that cannot work."""


class SeatError(ElectionError):
    """The seat cannot be reached at the moment (disk full, no descriptors left); tried again with back-off."""


class SeatLostError(SeatError):
    """The seat is no longer ours; the message reports how the loss was detected."""


class LedgerVersionError(ConfigurationError):
    """The ledger has a schema that this code cannot read; written to, it could break P3 for code that can."""


class LedgerError(ElectionError):
    """The ledger cannot be read or written at the moment. Nothing runs unclaimed; tried again with back-off."""


class LedgerBusyError(LedgerError):
    """Another process keeps the ledger locked, on a storage that can be written to."""


class StaleTermError(ElectionError):
    """A later term has begun, so a claim or settlement of this one was refused (P3). It ends the term."""


class UnknownJobError(ElectionError, LookupError):
    """There is no job of that id, neither in the code nor stored in the ledger."""


class RunError(ElectionError):
    """A requested run has not succeeded, or there was no run.

    Attributes:
        outcome: ``failed`` or ``interrupted``; ``skipped``, ``refused`` or ``expired`` if there was no run.
        reason: The job's error, or why there was no run, in words.
    """

    def __init__(self, message: str, outcome: str, reason: str | None) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.reason = reason


class UnfinishedJobsError(ElectionError):
    """The term's work was cut short while job code still ran; the seat must stay held until the process is gone."""


class NotStartedError(ElectionError):
    """The Election has not been started; its lifespan, or ``async with election``, starts it."""


def describe_error(error: BaseException) -> str:
    """Return the message of the error; its ``repr`` if it has none; with its type if it is no ``Exception``."""
    if not isinstance(error, Exception):
        return what_went_wrong(error)
    try:
        return str(error) or repr(error)
    except BaseException:  # a class of the application
        return what_went_wrong(error)


def traceback_if_unexpected(error: BaseException) -> BaseException | None:
    """Return the error if its traceback adds to its message; None otherwise."""
    return None if isinstance(error, SeatError | StaleTermError | OSError) else error


MAX_ERROR_LENGTH = 2000
"""Characters of an error that are kept."""


def what_went_wrong(error: BaseException) -> str:
    """Return type and message of an error as text that any ledger can store, even if its class cannot format it."""
    try:
        text = str(error)
    except BaseException:
        text = "its __str__ failed"
    return to_storable(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def to_storable(text: str) -> str:
    """Return a text that any ledger can store, cut at ``MAX_ERROR_LENGTH``."""
    return text[:MAX_ERROR_LENGTH].replace("\0", "\ufffd").encode("utf-8", "backslashreplace").decode()
