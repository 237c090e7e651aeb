"""Log of the package, which never raises: a handler of the application that fails keeps no job from running.

``logging`` passes on the exceptions of filters, formatters and record factories to the code that logs.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any


def guard(logger: logging.Logger) -> logging.Logger:
    """Let a logger report the errors of its filters, handlers and record factory on standard error.

    Returns:
        The same logger.
    """
    if not hasattr(logger.handle, "guards"):
        logger.handle = _guarded(logger.handle)  # type: ignore[assignment,method-assign]
        logger.makeRecord = _guarded_factory(logger.makeRecord)  # type: ignore[method-assign]
    return logger


def _guarded(handle: Callable[[logging.LogRecord], None]) -> Callable[[logging.LogRecord], None]:
    @functools.wraps(handle)
    def guarded(record: logging.LogRecord) -> None:
        try:
            handle(record)
        except BaseException:  # no cancellation: nothing is awaited here
            _report()

    guarded.guards = handle  # type: ignore[attr-defined]
    return guarded


def _guarded_factory(make: Callable[..., logging.LogRecord]) -> Callable[..., logging.LogRecord]:
    @functools.wraps(make)
    def guarded(*args: Any, **kwargs: Any) -> logging.LogRecord:
        try:
            return make(*args, **kwargs)
        except BaseException:
            _report()
            return _plain_record(*args, **kwargs)

    return guarded


def _plain_record(
    name: str, level: int, path: str, line: int, message: object, values: Any, error: Any, function: str | None = None,
    extra: Mapping[str, object] | None = None, stack: str | None = None,
) -> logging.LogRecord:  # fmt: skip
    """Make a record as ``logging.Logger.makeRecord`` does, without the application's factory."""
    record = logging.LogRecord(name, level, path, line, message, values, error, function, stack)
    record.__dict__.update(extra or {})
    return record


def _report() -> None:
    """Report as ``logging.Handler.handleError`` does."""
    if not logging.raiseExceptions:
        return
    with contextlib.suppress(Exception):  # standard error is closed
        sys.stderr.write(f"--- Logging error ---\n{traceback.format_exc()}")


log = guard(logging.getLogger("election"))
"""Logger of the package."""
