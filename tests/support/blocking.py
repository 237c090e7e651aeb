"""Detector of calls by which our code blocks an event loop (P8), for tests and for the applications that they start."""

from __future__ import annotations

import functools
import importlib
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import blockbuster.blockbuster
from blockbuster import BlockBuster, BlockBusterFunction, BlockingError

MAY_BLOCK = {
    # Once per process, before it takes part; ``run.py`` calls it without a loop.
    "election/engines/file/directory.py": {"__init__", "check"},
    # A few milliseconds at most, for a transaction that this makes faster; rarer and rarer if it does not.
    "election/engines/sql/bounded_wait.py": {"_wait"},
    # /proc is memory.
    "election/core/process.py": {"_start_time", "_surroundings", "pinned"},
    # Once per process, before it takes part: queries to the server, which may take seconds to answer.
    "election/engines/redis/diagnostics.py": {"check"},
    # Once per process, at import: the scripts, which are part of this package.
    "election/engines/redis/scripts.py": {"_script"},
    # The destination of the log is up to the application.
    "logging/__init__.py": {"handle"},
    # Once per process, when its first job is registered: usually at import.
    "tzlocal/unix.py": {"get_localzone"},
    # Once per process, when the router is made: the page, which is part of this package.
    "election/web/live.py": {"_page"},
    # For tests, before and after what they test.
    "election/testing/leader.py": {"always_leader"},
    # Once per process: the time zone that a stored job names, and the module of its function.
    "election/schedule/triggers.py": {"_zone"},
    "election/schedule/stored.py": {"_import"},
}
"""Functions that may block, with everything that they call, and the reason."""

SYNCS = ["os.fsync", "os.fdatasync", "election.engines.file.atomic_files._DATASYNC"]
"""Functions that wait for a disk; blockbuster does not detect these by itself."""


@contextmanager
def watch_the_loop() -> Iterator[None]:
    """Refuse calls that block a running loop in this process, if our code is among the callers.

    Raises ``AssertionError`` at the end if there were any, with their tracebacks: the refusal itself may have been
    caught on the way, as one of the errors that an elector survives.
    """
    found: list[str] = []

    class _ToldError(BlockingError):
        def __init__(self, func: str) -> None:
            super().__init__(func)
            found.append(f"{self}\n{''.join(traceback.format_stack()[:-2])}")

    watch = _watch()
    with mock.patch.object(blockbuster.blockbuster, "BlockingError", _ToldError):
        watch.activate()
        try:
            yield
        finally:
            watch.deactivate()
    assert not found, "an event loop was blocked:\n" + "\n".join(found)


@functools.cache
def _watch() -> BlockBuster:
    ours = ["election", "app"]
    watch = BlockBuster(ours)
    for name in SYNCS:
        module, _, function = name.rpartition(".")
        watch.functions[name] = BlockBusterFunction(importlib.import_module(module), function, scanned_modules=ours)
    for watched in watch.functions.values():
        for file, names in MAY_BLOCK.items():
            watched.can_block_in(file, names)
    return watch
