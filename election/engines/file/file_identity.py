"""Identity of a file, different from that of any copy (docs/pitfalls.md#49)."""

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
"""Offset of the birth time in ``struct statx``; see statx(2)."""


def identify_file(path: str) -> str | None:
    """Return the inode and, where the filesystem stores it, the birth time of a file; None if there is no such file.

    Both stay the same across renames, restarts and remounts; a copy has others. Device numbers are left out, because
    they change from boot to boot. A clone of a whole filesystem cannot be distinguished from the original.
    """
    try:
        inode, born = os.stat(path).st_ino, _born(path)
    except OSError:
        return None
    return f"{inode}" if born is None else f"{inode} of {born}"


def _born(path: str) -> str | None:
    """Birth time of the file in seconds; None if unknown."""
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
