"""Printing: a table for people, JSON for machines."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Self

QUIET_S = 0.3
"""Seconds after which progress is shown, and between two updates of the elapsed time."""


def show_json(value: Any, *, indent: int | None = 1) -> None:
    """Print any of our values as JSON, indented, or on one line."""
    print(json.dumps(value, default=_plain, indent=indent))


def show_table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows under their heads, each column as wide as it needs to be."""
    texts = [list(heads), *([text(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in texts) for column in range(len(heads))]
    for line in texts:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def text(value: Any) -> str:
    """A value as shown in a table, on one line: times in local time, to the millisecond."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S.") + f"{value.microsecond // 1000:03d}"
    return printable(str(value)).replace("\n", " ")


def printable(value: str) -> str:
    """The text without control characters of a terminal; line ends stay."""
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in value)


class Progress:
    """Shows, on a terminal only, the step of a long task and the elapsed time; the line is removed at the end.

    ``update`` sets the step. A short task shows nothing.
    """

    def __init__(self, line: str) -> None:
        self._line = line
        self._began = time.monotonic()
        self._ticking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if sys.stderr.isatty():
            self._ticking = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.wait([self._ticking])
            _write_over("")

    def update(self, line: str) -> None:
        self._line = line
        self._show()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(QUIET_S)
            self._show()

    def _show(self) -> None:
        taken = time.monotonic() - self._began
        if self._ticking is not None and taken >= QUIET_S:
            _write_over(f"{self._line} ({taken:.0f} s) …"[: shutil.get_terminal_size().columns - 1])


def _write_over(line: str) -> None:
    print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError(value)
