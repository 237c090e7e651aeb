"""Processes that hold a flock, as Linux lists them under /proc.

``/proc/locks`` names the process that took a lock, even if it is dead; a descriptor's ``fdinfo`` shows its current
holder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Holder:
    """A process with a descriptor on which a file is flocked.

    Attributes:
        pid: Process that has the descriptor.
        command: Its command line.
        taken_by: Pid that took the lock; not ``pid`` if this process inherited the descriptor. 0 if that process is
            dead, and this one in a container, where the kernel does not name dead processes.
    """

    pid: int
    command: str
    taken_by: int


def who_holds(device: int, inode: int) -> Iterator[Holder]:
    """Processes that hold the flock on a file, among those that this user may inspect.

    The file is compared by ``stat``, because ``fdinfo`` has other device numbers on btrfs and overlayfs.
    """
    for pid in filter(str.isdigit, list_directory("/proc")):
        if (holder := holder_of(int(pid), device, inode)) is not None:
            yield holder


def holder_of(pid: int, device: int, inode: int) -> Holder | None:
    """The process as a holder of the flock on a file; None if it does not hold it, or may not be inspected."""
    taken_by = _taken_by(pid, device, inode)
    if taken_by is None:
        return None
    return Holder(pid, _read(f"/proc/{pid}/cmdline").replace("\0", " ").strip(), taken_by)


def _taken_by(pid: int, device: int, inode: int) -> int | None:
    """Pid that took the flock that ``pid`` holds on the file; None if it holds none."""
    for descriptor in list_directory(f"/proc/{pid}/fd"):
        try:
            found = os.stat(f"/proc/{pid}/fd/{descriptor}")
        except OSError:
            continue  # closed or gone meanwhile
        if (found.st_dev, found.st_ino) != (device, inode):
            continue
        for line in _read(f"/proc/{pid}/fdinfo/{descriptor}").splitlines():
            words = line.split()  # lock: 1: FLOCK ADVISORY WRITE 4242 08:01:1234 0 EOF
            if words[:1] == ["lock:"] and words[2] == "FLOCK":
                return int(words[5])
    return None


def list_directory(path: str) -> list[str]:
    """Names in a directory; empty if it cannot be read."""
    try:
        return os.listdir(path)
    except OSError:
        return []


def _read(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""
