"""Imports the modules of jobs that were added at run time, in threads: a leader's event loop goes on meanwhile.

An import may take seconds, or wait for a server. On the event loop no heartbeat would be sent and no job would run.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import sys

from election.core.clock import Clock, first
from election.core.errors import what_went_wrong
from election.core.threads import run_in_daemon_thread

MAX_IMPORT_S = 10.0
"""Seconds after which a job whose module is still being imported is broken; it goes on when the import has ended."""

_NEEDS_THE_LOOP = ("main thread", "event loop")
"""Words of the errors of modules that only the event loop's thread can import: they handle signals, or make tasks."""


class ModuleImports:
    """Imports of one term.

    Args:
        clock: Time of the imports.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._under_way: dict[str, tuple[asyncio.Future[BaseException | None], float]] = {}
        self._failed: dict[str, BaseException] = {}
        self._done: set[str] = set()
        """Modules that were imported, and those that only the thread of the event loop can import."""
        self.ended = asyncio.Event()
        """Set when an import has ended."""

    def begin(self, reference: str) -> bool:
        """Import the module of a function, if this process does not have it yet.

        Args:
            reference: ``package.module:function``.

        Returns:
            Whether it is being imported, and since not more than ``MAX_IMPORT_S``.
        """
        module = _module_of(reference)
        if module not in self._under_way and not self._is_decided(module):
            try:
                work = run_in_daemon_thread(functools.partial(_import, module), "election-import")
            except RuntimeError:  # at a limit of threads: the event loop imports it
                self._done.add(module)
                return False
            work.add_done_callback(functools.partial(self._end, module))
            self._under_way[module] = work, self._clock.monotonic()
        return self.is_under_way(reference)

    def is_under_way(self, reference: str) -> bool:
        """Whether the module of a function is being imported, and since not more than ``MAX_IMPORT_S``."""
        _, began = self._under_way.get(_module_of(reference), (None, -MAX_IMPORT_S))
        return self._clock.monotonic() - began < MAX_IMPORT_S

    @property
    def is_busy(self) -> bool:
        """Whether any module is being imported, however long that takes."""
        return bool(self._under_way)

    async def wait(self) -> None:
        """Return when the imports that are under way have ended, after ``MAX_IMPORT_S`` at most."""
        if self._under_way:
            works = [work for work, _ in self._under_way.values()]
            await first(asyncio.wait(works), self._clock.sleep(MAX_IMPORT_S))

    def check(self, reference: str) -> None:
        """Raise the exception that the import of a function's module has ended with; ``ImportError`` if it goes on."""
        module = _module_of(reference)
        if module in self._under_way:
            raise ImportError(f"its module is being imported since more than {MAX_IMPORT_S:g} s, and is not ready yet")
        if module in self._failed:
            raise self._failed[module]

    def forget_failures(self) -> None:
        """Let modules whose import has failed be imported again."""
        self._failed.clear()

    def _is_decided(self, module: str) -> bool:
        found = sys.modules.get(module)
        is_here = found is not None and not getattr(getattr(found, "__spec__", None), "_initializing", False)
        return not module or is_here or module in self._failed or module in self._done

    def _end(self, module: str, work: asyncio.Future[BaseException | None]) -> None:
        del self._under_way[module]
        error = None if work.cancelled() else work.result()
        if error is None or any(words in what_went_wrong(error) for words in _NEEDS_THE_LOOP):
            self._done.add(module)
        else:
            self._failed[module] = error
        self.ended.set()


def _module_of(reference: str) -> str:
    module, _, function = reference.partition(":")
    return module if function else ""


def _import(module: str) -> BaseException | None:
    try:
        importlib.import_module(module)
    except BaseException as error:  # a module may raise anything
        return error
    return None
