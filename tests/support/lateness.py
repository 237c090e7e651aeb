"""Measure of how late a busy machine is, for bounds on seconds: as strict as ever where the machine keeps up."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PAUSE_S = 0.05


@contextlib.contextmanager
def lateness(path: Path) -> Iterator[Callable[[], float]]:
    """Scope in which a thread waits for 50 ms and writes a byte to the disk, again and again, as a worker does.

    The value is a function: seconds by which the latest of these rounds so far was late; after the scope, the latest
    within it. path: directory on the disk that is used.
    """
    stop, sync = threading.Event(), getattr(os, "fdatasync", os.fsync)
    longest, began = 0.0, time.monotonic()
    ended: float | None = None

    def overshot() -> float:
        now = time.monotonic() if ended is None else ended
        return max(longest, now - began - PAUSE_S)  # the round that is not over counts, too

    def repeat() -> None:
        nonlocal longest, began
        with tempfile.TemporaryFile(dir=path, buffering=0) as file:
            while not stop.wait(PAUSE_S):
                file.write(b".")
                sync(file.fileno())
                longest, began = overshot(), time.monotonic()

    thread = threading.Thread(target=repeat, name="lateness")
    thread.start()
    try:
        yield overshot
    finally:
        ended = time.monotonic()
        stop.set()
        thread.join()
