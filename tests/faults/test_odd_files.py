"""A file of the pool is replaced by something that is no plain file, while the pool is led.

With the engine's own workers, which are cheap.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.engines.conftest import workers
from tests.engines.file.conftest import pool
from tests.engines.file.pool import Pool
from tests.support.lateness import lateness
from tests.support.replacing import replace_by_directory, replace_by_link
from tests.support.waiting import until

__all__ = ["pool", "workers"]

Put = Callable[[Path, ExitStack], None]


def a_symbolic_link(path: Path, _: ExitStack) -> None:
    """Like a user who moves the file to another disk: same content, another place."""
    replace_by_link(path)


def a_fifo(path: Path, _: ExitStack) -> None:
    os.mkfifo(path.with_suffix(".other"), 0o600)
    path.with_suffix(".other").replace(path)


def a_fifo_that_is_held_open(path: Path, held: ExitStack) -> None:
    a_fifo(path, held)
    held.callback(os.close, os.open(path, os.O_RDWR))


def a_socket(path: Path, held: ExitStack) -> None:
    with inside(path.parent), socket.socket(socket.AF_UNIX) as listener:
        listener.bind("other")  # an absolute path may be too long for it
        os.replace("other", path.name)


@contextmanager
def inside(directory: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.mark.parametrize("put", [a_symbolic_link, a_fifo, a_fifo_that_is_held_open, a_socket])
def test_in_place_of_the_record(pool: Pool, put: Put, tmp_path: Path) -> None:
    """P1, P2: the term is lost, no worker waits for an unreadable file, and the next leader writes a record."""
    pool.led()
    pool.followers(2)
    with ExitStack() as held, lateness(tmp_path) as late:
        put(pool.record, held)
        began = time.monotonic()
        leader = pool.next_leader(after=1)
        assert time.monotonic() - began < 5 + 3 * late()
        until(lambda: leader.ask("look")["led"])
    assert pool.term() == 2
    assert pool.record.is_file()
    assert not pool.record.is_symlink()
    assert pool.told("the leader record was removed or changed by somebody else")


def test_a_directory_in_place_of_the_record(pool: Pool, tmp_path: Path) -> None:
    """It may hold anything, so it is not removed: nobody leads, every worker reports the reason until it is gone.

    A campaign lost to a worker that fails likewise is no sign that the seat can be reached.
    """
    pool.led()
    pool.followers(2)
    replace_by_directory(pool.record)
    until(lambda: all(troubles(pool)), what="every worker says why")
    tries, silent = int(pool.number.read_text()), 0

    def tried_again() -> bool:
        nonlocal silent
        silent += troubles(pool).count(None)
        return int(pool.number.read_text()) >= tries + 6  # each try takes a number

    until(tried_again)
    assert silent == 0
    assert not pool.told("the seat can be reached again")
    assert not any(worker.ask("look")["led"] for worker in pool.workers)
    with lateness(tmp_path) as late:
        pool.record.rmdir()
        began = time.monotonic()
        pool.next_leader(after=1)
        assert time.monotonic() - began < 7 + 3 * late()
    until(lambda: not any(troubles(pool)))


def troubles(pool: Pool) -> list[str | None]:
    return [worker.ask("look")["trouble"] for worker in pool.workers]
