"""Exchange of two paths in one step, so that nobody can make a file anew in between."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

AT_FDCWD = -100

EXCHANGE = 2
"""``RENAME_EXCHANGE`` of Linux, ``RENAME_SWAP`` of macOS."""


def exchange(one: Path, other: Path) -> None:
    """Give each path what the other one names."""
    library = ctypes.CDLL(None, use_errno=True)
    first, second = os.fsencode(one), os.fsencode(other)
    if sys.platform == "darwin":
        failed = library.renamex_np(first, second, EXCHANGE)
    else:
        failed = library.renameat2(AT_FDCWD, first, AT_FDCWD, second, EXCHANGE)
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one), None, str(other))
