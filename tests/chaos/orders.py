"""Orders to a worker: a file named after its pid, which it accepts by renaming it, and removes when it carries it
out.

Not an HTTP request, which any worker would get. A rename, because an order that was not accepted can be withdrawn:
either the worker carries it out, or it was never given.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from tests.support.waiting import until

TIMEOUT_S = 5.0
"""Seconds for a worker to carry it out: it may hang for a while."""


class NotObeyedError(Exception):
    """The order was withdrawn: the worker was stopped, hung or dead."""


def paths(directory: Path, pid: int) -> tuple[Path, Path]:
    """Path of an order, and its path after acceptance."""
    return directory / str(pid), directory / f"{pid}.accepted"


def accept(directory: Path, pid: int) -> tuple[str, Path] | None:
    """The order for a worker, if there is one, and the file to remove when it is carried out."""
    order, accepted = paths(directory, pid)
    try:
        order.rename(accepted)
    except FileNotFoundError:
        return None
    return accepted.read_text(), accepted


def give(directory: Path, pid: int, what: str, *, hopeless: Callable[[], bool]) -> None:
    """Return when the order is carried out, or accepted by a worker that cannot continue now.

    hopeless: whether there is no point in waiting longer. Raises ``NotObeyedError``.
    """
    order, accepted = paths(directory, pid)
    new = order.with_suffix(".new")
    new.write_text(what)
    new.rename(order)
    with contextlib.suppress(AssertionError):
        until(lambda: hopeless() or not (order.exists() or accepted.exists()), timeout=TIMEOUT_S)
    with contextlib.suppress(FileNotFoundError):
        order.unlink()
        raise NotObeyedError(f"pid {pid} did not get to it")
