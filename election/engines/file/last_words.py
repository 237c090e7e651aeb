"""``leader.stack``: where a leader that hangs says, at its very end, in which line each of its threads hung.

``faulthandler`` writes it from outside of the interpreter; whoever leads next reads it and passes it on to its log.
"""

from __future__ import annotations

import contextlib
import logging
import os

from election.core.events import named

from .storage import read_file

log = logging.getLogger("election")


class LastWords:
    """The last words of the leader before."""

    def __init__(self, path: str) -> None:
        self._path = path

    def read(self) -> str | None:
        """What was written; None if nothing was. Never raises: the words are only an explanation."""
        with contextlib.suppress(OSError):
            return (read_file(self._path) or b"").decode(errors="replace").strip() or None
        return None

    def pass_on(self, pid: int | None) -> None:
        """Write them into the log, once, and make room for the next."""
        words = self.read()
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        if words is not None:
            log.error(
                "pid %s hung, and ended itself; its threads were here: %s",
                pid,
                f"\n{words}",
                extra=named("hang_traced"),
            )
