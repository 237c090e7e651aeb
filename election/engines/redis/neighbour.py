"""A leader on this very host is seen to die at once, by its pidfd: proof enough to take its lease without waiting."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator

from election.core.process import ProcessIdentity


@contextlib.contextmanager
def watched(process: ProcessIdentity | None, died: Callable[[], None]) -> Iterator[None]:
    """Call ``died`` when the process does, while the scope is open; never, if it cannot be watched from here."""
    descriptor = _open(process)
    if descriptor is None:
        if process is not None and process.is_known_dead():  # meanwhile
            died()
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, died)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _open(process: ProcessIdentity | None) -> int | None:
    if process is None or process.pid == os.getpid() or not process.is_neighbour():
        return None
    try:
        descriptor = os.pidfd_open(process.pid)
    except (OSError, AttributeError):  # dead already, no descriptors left, or no Linux: the lease bounds it
        return None
    if process.is_alive():
        return descriptor
    os.close(descriptor)  # somebody else has got the pid in between
    return None
