"""System calls on a pool's files, one by one: the n-th fails, or is preceded by an action.

As SQLite is tested: a loop over n covers steps that a written list would miss.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from typing import Any

from election.engines.file import atomic_files

CALLS = {
    **{name: (os, name) for name in ("open", "read", "write", "pread", "pwrite", "fsync", "fstat", "stat", "lstat")},
    **{name: (os, name) for name in ("utime", "replace", "link", "unlink", "mkdir", "mkfifo", "chmod", "listdir")},
    "flock": (fcntl, "flock"),
    "fdatasync": (atomic_files, "_DATASYNC"),
}

Act = Callable[[int, str], None]


class Steps:
    """Between ``begin`` and ``end``, calls ``act(step, call)`` before each system call on files below ``path``."""

    def __init__(self, path: str, act: Act) -> None:
        self._path = path
        self._act = act
        self._real: dict[tuple[Any, str], Any] = {}
        self.taken = 0

    def begin(self) -> None:
        for call, (module, name) in CALLS.items():
            self._real[module, name] = getattr(module, name)
            setattr(module, name, self._stepping(call, getattr(module, name)))

    def end(self) -> None:
        for (module, name), real in self._real.items():
            setattr(module, name, real)

    @contextlib.contextmanager
    def running(self) -> Iterator[Steps]:
        self.begin()
        try:
            yield self
        finally:
            self.end()

    def _stepping(self, name: str, real: Any) -> Any:
        def step(*args: Any, **kwargs: Any) -> Any:
            named = _named(args[0]) if args else ""
            if named.startswith(self._path):
                self.taken += 1
                self._act(self.taken, f"{'unlock' if args[1:] == (fcntl.LOCK_UN,) else name} {named}")
            return real(*args, **kwargs)

        return step


class Faults(Steps):
    """Lets the named calls fail with an errno each."""

    def __init__(self, path: str, errnos: dict[str, int]) -> None:
        super().__init__(path, self._fail)
        self._errnos = errnos

    def _fail(self, _: int, call: str) -> None:
        code = self._errnos.get(call.split(maxsplit=1)[0])
        if code is not None:
            raise OSError(code, os.strerror(code))


_readlink = os.readlink


def _named(file: Any) -> str:
    if isinstance(file, int):
        try:
            return _readlink(f"/proc/self/fd/{file}")
        except OSError:
            return ""
    return os.fspath(file) if isinstance(file, str | os.PathLike) else ""
