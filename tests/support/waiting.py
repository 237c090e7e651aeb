"""Waits for facts, with generous limits and a message that names the missing fact."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

_T = TypeVar("_T")

POLL = 0.005
"""Seconds between the first two polls; each pause is longer than the one before, up to ``MAX_POLL``."""

MAX_POLL = 0.05
"""Seconds; many tests wait at the same time, and each poll costs processor time that the pools need."""
LIMIT = 60.0
"""Seconds within which any expected fact comes about, even on a slow machine."""


def until(
    fact: Callable[[], _T], timeout: float = LIMIT, *, what: str | Callable[[], object] = "", poll: float = POLL
) -> _T:
    """Return the value of ``fact`` as soon as it is true; an ``AssertionError`` that it raises means not yet.

    what: the fact in words for the error message, or a function that returns them.
    poll: seconds between two polls, for a fact that is costly to read.
    """
    end, pause = time.monotonic() + timeout, poll
    while True:
        try:
            found: Any = fact()
        except AssertionError as error:
            found, seen = None, str(error)
        else:
            seen = repr(found)
        if found:
            return found  # type: ignore[no-any-return]
        if time.monotonic() > end:
            raise AssertionError(_not_within(timeout, fact, what, seen))
        time.sleep(pause)
        pause = max(poll, min(pause * 1.2, MAX_POLL))


async def until_async(
    fact: Callable[[], Awaitable[_T] | _T], timeout: float = LIMIT, *, what: str | Callable[[], object] = ""
) -> _T:
    """Like ``until``, on an event loop; ``fact`` may be a coroutine function."""
    end = time.monotonic() + timeout
    while True:
        try:
            found: Any = fact()
            if isinstance(found, Awaitable):
                found = await found
        except AssertionError as error:
            found, seen = None, str(error)
        else:
            seen = repr(found)
        if found:
            return found  # type: ignore[no-any-return]
        if time.monotonic() > end:
            raise AssertionError(_not_within(timeout, fact, what, seen))
        await asyncio.sleep(POLL)


def _not_within(timeout: float, fact: Callable[..., Any], what: str | Callable[[], object], seen: str) -> str:
    code = getattr(fact, "__code__", None)
    words = (what() if callable(what) else what) or (f"{code.co_filename}:{code.co_firstlineno}" if code else fact)
    return f"not within {timeout:g} s: {words}; last seen: {seen}"


def remove_in_use(path: Path) -> None:
    """Remove a directory in which others still write: files that appear in between are removed too."""

    def is_removed() -> bool:
        with contextlib.suppress(OSError):
            shutil.rmtree(path)
            return True
        return False

    until(is_removed, what=f"{path} is removed")
