"""``leader.alive``: a FIFO whose write end the leader holds; it hangs up when the leader resigns or dies.

Only an event that shortens the safety poll: everything works, later, without it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat

from election.core.events import named

log = logging.getLogger("election")

_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)

_held: set[int] = set()


class AliveFifo:
    """One pool's FIFO."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None

    def hold(self) -> None:
        """Hold the write end, as the leader does; makes the FIFO if need be. Never raises: it is only a help."""
        self.let_go()
        try:
            if not self._is_fifo():
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path)
                os.mkfifo(self._path, 0o600)
            # Both ends, because the write end alone cannot be opened before there is a reader.
            self._descriptor = os.open(self._path, os.O_RDWR | _FLAGS)
            _held.add(self._descriptor)
        except (OSError, AttributeError) as error:
            log.warning(
                "%s cannot be held, so resignations are noticed more slowly: %s",
                self._path,
                error,
                extra=named("fifo_unavailable"),
            )

    def let_go(self) -> None:
        """Hang up. In a forked child there is nothing left to close, and the number may be another file's."""
        if self._descriptor in _held:
            _held.discard(self._descriptor)
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
        self._descriptor = None

    def listen(self) -> int | None:
        """A descriptor that becomes readable when a writer that there is, or that comes, hangs up; None if none can.

        Readable is what a FIFO is only then: a fresh read end is silent until its first writer has come and gone.
        """
        try:
            descriptor = os.open(self._path, os.O_RDONLY | _FLAGS)
        except OSError:
            return None
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        return None

    def _is_fifo(self) -> bool:
        try:
            return stat.S_ISFIFO(os.lstat(self._path).st_mode)
        except FileNotFoundError:
            return False


def _close_in_child() -> None:
    """A forked child that kept the write end would keep the FIFO from hanging up (docs/pitfalls.md#1)."""
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
