"""Log of an attempt: the traceback of its error and the lines that its code logs, both bounded.

Lines are collected where ``logging`` makes its records, in a log record factory: a handler of the root logger would
miss loggers that do not propagate, and would change what ``basicConfig`` and the handler of last resort do.
"""

from __future__ import annotations

import logging
import os
import threading
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path

from .model import LogLine, RunLog

MAX_LINES = 200
"""Lines of one attempt that are kept: the latest."""

MAX_LINE_LENGTH = 2_000
"""Characters of one line."""

MAX_LENGTH = 32_000
"""Characters of all lines of one attempt."""

MAX_TRACEBACK_LENGTH = 16_000
"""Characters of a traceback; the innermost part is kept."""

_PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"


class LineCollector:
    """Collects the lines that one attempt logs, in any thread that has its context."""

    def __init__(self) -> None:
        self._lines: deque[LogLine] = deque()
        self._length = 0
        self._dropped = 0
        self._latest: logging.LogRecord | None = None
        self._latest_made: object = None
        self._lock = threading.RLock()  # the message of a record may log itself

    def add(self, record: logging.LogRecord) -> None:
        """Keep a record. Never raises: it is called within the job's own call of ``logging``."""
        with self._lock:
            if record is self._latest:  # two factories in a chain
                return
            # The one before is formatted now, after the filters of its logger may have redacted it.
            before, made = self._latest, self._latest_made
            self._latest, self._latest_made = record, _created(record)
            self._keep(before, made)

    def close(self, attempt: int, error: BaseException | None) -> RunLog | None:
        """Return the log of the attempt, which ended with ``error``; None if there is nothing to keep. Never raises."""
        with self._lock:
            before, self._latest = self._latest, None
            self._keep(before, self._latest_made)
            lines, dropped = tuple(self._lines), self._dropped
        if not lines and error is None:
            return None
        return RunLog(attempt, None if error is None else format_traceback(error), lines, dropped)

    def _keep(self, record: logging.LogRecord | None, made: object) -> None:
        """Keep a record, which may have become anything in a filter; ``made`` is when it was made."""
        if record is None:
            return
        line = LogLine(_time_of(record, made), _plain(record, "levelname"), _plain(record, "name"), _text_of(record))
        self._lines.append(line)
        self._length += len(line.text)
        while len(self._lines) > MAX_LINES or self._length > MAX_LENGTH:
            self._length -= len(self._lines.popleft().text)
            self._dropped += 1


_collector: ContextVar[LineCollector | None] = ContextVar("election_line_collector", default=None)


def collect_lines(collector: LineCollector) -> None:
    """Collect the log records of code in the current context."""
    _install()
    _collector.set(collector)


class _Factory:
    """Log record factory that passes on the records of the factory before it."""

    installed = False

    def __init__(self, before: Callable[..., logging.LogRecord]) -> None:
        self._before = before

    def __call__(self, *args: object, **kwargs: object) -> logging.LogRecord:
        record = self._before(*args, **kwargs)
        collector = _collector.get()
        if collector is not None:
            collector.add(record)
        return record


def _install() -> None:
    if not _Factory.installed:
        _Factory.installed = True
        logging.setLogRecordFactory(_Factory(logging.getLogRecordFactory()))


def format_traceback(error: BaseException) -> str:
    """Return the traceback from the job's own code on, with its innermost part if it is too long."""
    try:
        formatted = traceback.TracebackException.from_exception(error, compact=True)
        _drop_own_frames(formatted)
        lines = list(formatted.format())
    except BaseException as reason:  # an exception class can break any of it
        return f"{type(error).__name__}: its traceback cannot be printed: {type(reason).__name__}"
    kept: list[str] = []
    length = 0
    for line in reversed(lines):
        shortened = shorten(line, MAX_LINE_LENGTH)
        length += len(shortened)
        if length > MAX_TRACEBACK_LENGTH:
            kept.append(f"  … {len(lines) - len(kept)} outer frames left out\n")
            break
        kept.append(shortened)
    return "".join(reversed(kept)).rstrip("\n")


def shorten(text: str, length: int) -> str:
    """Return the text in characters that can be encoded, with its middle left out if it is too long."""
    half = length // 2
    if len(text) > length:
        text = f"{text[:half]} … {len(text) - 2 * half} characters … {text[-half:]}"
    return text.encode("utf-8", "backslashreplace").decode()


def _drop_own_frames(formatted: traceback.TracebackException) -> None:
    """Remove this package's frames from the beginning of a traceback, and of those of its causes."""
    waiting: list[traceback.TracebackException | None] = [formatted]
    while waiting:
        each = waiting.pop()
        if each is None:
            continue
        while each.stack and each.stack[0].filename.startswith(_PACKAGE):
            del each.stack[0]
        waiting += [each.__cause__, each.__context__, *(each.exceptions or ())]


def _plain(record: logging.LogRecord, attribute: str) -> str:
    """An attribute of a record as plain text: a filter may have put any object there, or removed it."""
    try:
        return shorten(str.__str__(str(getattr(record, attribute))), MAX_LINE_LENGTH)
    except BaseException:
        return "?"


def _created(record: logging.LogRecord) -> object:
    """Time of a record as it stands there, whatever that is."""
    with suppress(BaseException):
        return record.created
    return None


def _time_of(record: logging.LogRecord, made: object) -> datetime:
    """Time of a record: as its filters left it, else when it was made, else the present one."""
    for seconds in (_created(record), made):
        with suppress(BaseException):  # no number, or none of a time, such as one in milliseconds
            return datetime.fromtimestamp(seconds, UTC)  # type: ignore[arg-type]
    return datetime.fromtimestamp(logging.LogRecord("", 0, "", 0, "", None, None).created, UTC)


def _text_of(record: logging.LogRecord) -> str:
    try:
        text = str.__str__(record.getMessage())
        if record.exc_info and record.exc_info[1] is not None:
            text += "\n" + format_traceback(record.exc_info[1])
    except BaseException as error:  # the message or its arguments may raise anything
        text = f"{_plain(record, 'msg')} (cannot be formatted: {type(error).__name__})"
    return shorten(text, MAX_LINE_LENGTH)
