"""A terminal of 80 columns and 24 lines, in which a test runs a command and reads the screen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from types import TracebackType
from typing import Self

from tests.support.pool import ROOT

COLUMNS, LINES = 80, 24

HOME = "\x1b[H"
"""Start of each frame."""

_ORDERS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """Run ``python -m election …`` in a new pseudo-terminal. Leaving the scope ends it."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self._former = termios.tcgetattr(slave)
        self._slave = slave
        without = {"NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR"}
        inherited = {name: value for name, value in os.environ.items() if name not in without}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "election", *arguments],
            cwd=ROOT,
            env={**inherited, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **environment},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.set_blocking(self._master, False)
        self._written = b""

    def written(self) -> str:
        """The whole output so far, with control sequences."""
        while True:
            try:
                self._written += os.read(self._master, 65536)
            except BlockingIOError:
                return self._written.decode(errors="replace")

    def pictures(self) -> list[list[str]]:
        """Lines of each complete frame, without colours, oldest first."""
        *whole, _ = self.written().split(HOME)
        return [_ORDERS.sub("", picture).replace("\r", "").split("\n") for picture in whole[1:]]

    def shows(self, words: str) -> bool:
        """Whether the latest frame contains these words."""
        return any(words in "\n".join(picture) for picture in self.pictures()[-1:])

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """The exit code, once it has ended."""
        return self.process.wait(30)

    def is_as_before(self) -> bool:
        """Whether the terminal echoes input line by line again."""
        return termios.tcgetattr(self._slave)[:4] == self._former[:4]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)
