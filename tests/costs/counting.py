"""Counts of SQLite statements, waits for the disk, and system calls."""

from __future__ import annotations

import builtins
import contextlib
import fcntl
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest import mock

from election.engines.file import atomic_files


class Statements:
    """Statements on connections that are opened meanwhile: a list of transactions, each a list of statements."""

    def __init__(self) -> None:
        self.transactions: list[list[str]] = []

    def of(self, words: str) -> list[list[str]]:
        """Transactions with a statement that contains ``words``."""
        return [each for each in self.transactions if any(words in statement for statement in each)]

    @contextlib.contextmanager
    def counted(self) -> Iterator[Statements]:
        real = sqlite3.connect

        def connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:
            connection = real(*args, **kwargs)
            connection.set_trace_callback(self._see)
            return connection

        with mock.patch.object(sqlite3, "connect", connect):
            yield self

    def _see(self, statement: str) -> None:
        if statement.startswith("BEGIN") or not self.transactions:
            self.transactions.append([])
        self.transactions[-1].append(statement)


@contextlib.contextmanager
def syncs() -> Iterator[list[str]]:
    """Names of the calls by which Python code waited for the disk; not those beside the work."""
    found: list[str] = []

    def counting(name: str, real: Any) -> Any:
        def call(*args: Any) -> Any:
            if threading.current_thread().name != "election-checkpoint":
                found.append(name)
            return real(*args)

        return call

    with contextlib.ExitStack() as scope:
        for module, name in ((os, "fsync"), (os, "fdatasync"), (atomic_files, "_DATASYNC")):
            scope.enter_context(mock.patch.object(module, name, counting(name, getattr(module, name))))
        yield found


CALLS = {
    **{name: (os, name) for name in ("open", "read", "write", "pread", "pwrite", "close", "fstat", "stat", "lstat")},
    **{name: (os, name) for name in ("utime", "replace", "link", "unlink", "mkdir", "mkfifo", "listdir", "pidfd_open")},
    "flock": (fcntl, "flock"),
    "open()": (builtins, "open"),
    "readlink": (os, "readlink"),
}


@contextlib.contextmanager
def system_calls() -> Iterator[Counter[str]]:
    """Numbers of Python's system calls about files, by name."""
    found: Counter[str] = Counter()

    def counting(name: str, real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            found[name] += 1
            return real(*args, **kwargs)

        return call

    with contextlib.ExitStack() as scope:
        for name, (module, attribute) in CALLS.items():
            scope.enter_context(mock.patch.object(module, attribute, counting(name, getattr(module, attribute))))
        yield found
