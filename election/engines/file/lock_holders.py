"""Processes that hold a lock on a file, as Linux lists them under /proc.

``/proc/locks`` names the process that took a lock, of a flock even if it is dead; a descriptor's ``fdinfo`` shows its
current holder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

WRITE_LOCKS = (120, 128)
"""Bytes of the shared memory that a writer, and the first process that opens it, locks."""

MAX_COMMAND = 200
"""Characters of a command line that are shown."""


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
    return Holder(pid, _command(pid), taken_by)


def find_writer(path: str) -> int | None:
    """Pid of another process that keeps a SQLite database locked for writers; None if that cannot be found.

    In WAL mode, a writer's lock is on the shared memory (https://sqlite.org/walformat.html#wal_locks), and one on the
    database itself excludes everybody.
    """
    names = {path: (), f"{path}-shm": WRITE_LOCKS}
    files = [(found, which) for name, which in names.items() if (found := _stat(name)) is not None]
    for kind, _, access, by, file, *_ in listed_locks():
        if (kind, access) != ("POSIX", "WRITE") or by in {"0", str(os.getpid())}:
            continue
        pid, inode = int(by), file.rpartition(":")[2]
        # Another filesystem may have a file with this inode, too.
        if any(inode == str(found.st_ino) and _locks(pid, found, which) for found, which in files):
            return pid
    return None


def listed_locks(path: str = "/proc/locks") -> list[tuple[str, ...]]:
    """Rows of the kernel's list of locks without their numbers, see proc(5); empty if it cannot be read.

    It is read in pages, and passes over a lock if one before it goes between two pages, so it is read twice: a row of
    either list is returned.
    """
    lines = [line for _ in range(2) for line in _read(path).splitlines()]
    return list(dict.fromkeys(tuple(line.split()[1:]) for line in lines))


def _locks(pid: int, file: os.stat_result, which: Sequence[int]) -> bool:
    """Whether a process has a write lock on one of these bytes of the file; without any, on some part of it."""
    for line in _locks_of(pid, file.st_dev, file.st_ino):
        words = line.split()  # lock: 1: POSIX ADVISORY WRITE 4242 08:01:1234 120 120
        if words[2:5] == ["POSIX", "ADVISORY", "WRITE"]:
            first, last = int(words[7]), words[8]
            if not which or any(first <= byte and (last == "EOF" or byte <= int(last)) for byte in which):
                return True
    return False


def _locks_of(pid: int, device: int, inode: int) -> Iterator[str]:
    """Lines about the locks that a process has on a file, by its descriptors."""
    for descriptor in list_directory(f"/proc/{pid}/fd"):
        try:
            found = os.stat(f"/proc/{pid}/fd/{descriptor}")
        except OSError:
            continue  # closed or gone meanwhile
        if (found.st_dev, found.st_ino) == (device, inode):
            lines = _read(f"/proc/{pid}/fdinfo/{descriptor}").splitlines()
            yield from (line for line in lines if line.startswith("lock:"))


def describe_process(pid: int) -> str:
    """Pid and command line of a process."""
    return f"pid {pid} ({_command(pid)})"


def is_waiting_for_disk(pid: int) -> bool:
    """Whether a thread of the process is in an uninterruptible wait, as for a disk."""
    states = (_read(f"/proc/{pid}/task/{thread}/stat") for thread in list_directory(f"/proc/{pid}/task"))
    return any(stat.rpartition(")")[2].split()[:1] == ["D"] for stat in states)


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _command(pid: int) -> str:
    """Command line of a process, as one line, and its beginning if it is long."""
    return " ".join(_read(f"/proc/{pid}/cmdline").replace("\0", " ").split())[:MAX_COMMAND]


def _taken_by(pid: int, device: int, inode: int) -> int | None:
    """Pid that took the flock that ``pid`` holds on the file; None if it holds none."""
    for line in _locks_of(pid, device, inode):
        words = line.split()  # lock: 1: FLOCK ADVISORY WRITE 4242 08:01:1234 0 EOF
        if words[2] == "FLOCK":
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
