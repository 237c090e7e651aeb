"""Identity of a file: what a copy of it does not have (docs/pitfalls.md#49)."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from typing import Any

_AT_FDCWD, _AT_SYMLINK_NOFOLLOW, _STATX_BTIME = -100, 0x100, 0x800
_STATX_SIZE = 256
_BORN = struct.Struct("=qI")
_BORN_AT = 80
"""Place of the time of birth in ``struct statx``; see statx(2)."""


def identify_file(path: str) -> str | None:
    """Return the inode and, where the filesystem knows it, the time of birth of a file; None if there is no such file.

    Both stay what they are across renames, restarts and remounts; a copy has others. No device number is among them:
    those change from boot to boot. A clone of a whole filesystem cannot be told from the original.
    """
    try:
        inode, born = os.stat(path).st_ino, _born(path)
    except OSError:
        return None
    return f"{inode}" if born is None else f"{inode} of {born}"


def _born(path: str) -> str | None:
    """When the file was made, in seconds; None if that is not known."""
    if sys.platform != "linux":
        moment = getattr(os.stat(path), "st_birthtime", None)
        return None if moment is None else f"{moment:.9f}"
    statx: Any = getattr(ctypes.CDLL(None), "statx", None)
    if statx is None:
        return None
    found = ctypes.create_string_buffer(_STATX_SIZE)
    if statx(_AT_FDCWD, os.fsencode(path), _AT_SYMLINK_NOFOLLOW, _STATX_BTIME, found):
        return None
    if not struct.unpack_from("=I", found)[0] & _STATX_BTIME:
        return None
    seconds, nanoseconds = _BORN.unpack_from(found, _BORN_AT)
    return f"{seconds}.{nanoseconds:09}"
