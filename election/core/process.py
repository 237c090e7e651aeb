"""Identity of a process, by which a pid in a file can be verified (docs/pitfalls.md#10, #18).

A pid alone identifies no process: it is reused, it may be a zombie's, and it means another process in another
container. Boot, pid namespace, pid and start time together identify one process for good.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_NO_BOOT_ID = "machine "
"""Beginning of a boot id that does not name a boot."""

MAX_SEEN_ALIVE = 1000
"""Processes that are cached as seen alive: the latest."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process, for good.

    ``start_time`` is in clock ticks since boot on Linux and in microseconds since the epoch elsewhere: compared,
    never shown. (psutil's ``create_time()`` moves with the wall clock on Linux, and so cannot be compared.)
    """

    pid: int
    start_time: int
    boot_id: str
    pid_namespace: str
    host: str

    def is_neighbour(self) -> bool:
        """Whether that process and this one share a kernel and see each other's pids."""
        return (self.boot_id, self.pid_namespace) == _surroundings()

    def is_alive(self) -> bool | None:
        """Whether the process runs; None if that cannot be determined from here (another container's pid).

        Only for processes of this host: a process of another host has another boot id, and would be reported as dead.
        """
        boot_id, pid_namespace = _surroundings()
        if self.boot_id != boot_id:
            return None if _NO_BOOT_ID in {self.boot_id[:8], boot_id[:8]} else False  # nothing survives a boot
        if self.pid_namespace != pid_namespace:
            return None
        return self._runs()

    def is_known_dead(self) -> bool:
        """Whether the process is dead for certain; False for one in another container or on another host."""
        return self.is_neighbour() and not self._runs()

    def is_surely_dead(self) -> bool:
        """``is_known_dead``, and seen alive from here: safe even if another host has equal ids (snapshot clones)."""
        return self.is_known_dead() and self in _seen_alive

    def _runs(self) -> bool:
        runs = _start_time(self.pid) == self.start_time
        if runs:
            _seen_alive[self] = None
            if len(_seen_alive) > MAX_SEEN_ALIVE:
                del _seen_alive[next(iter(_seen_alive))]
        return runs


_seen_alive: dict[ProcessIdentity, None] = {}
"""Processes that were seen alive from this one, and so are of this host, even if another host has equal ids."""


def current_process() -> ProcessIdentity:
    """The identity of this process. Raises ``OSError`` if it cannot be read."""
    boot_id, pid_namespace = _surroundings()
    pid = os.getpid()
    start_time = _start_time(pid)
    if start_time is None:
        raise OSError(f"the start time of this process (pid {pid}) cannot be read")
    return ProcessIdentity(pid, start_time, boot_id, pid_namespace, socket.gethostname())


@contextmanager
def pinned(pid: int) -> Iterator[Callable[[], None]]:
    """Hold a process by a pidfd, so that its pid cannot be reused; yield a function that kills the process.

    Facts that are read about ``pid`` within the scope hold for the process that would be killed. Linux only. Raises
    ``PermissionError`` if the process is another user's, and ``OSError`` if there is none.
    """
    if not hasattr(os, "pidfd_open"):
        raise OSError("this system has no pidfd, without which another process might be killed")
    descriptor = os.pidfd_open(pid)
    try:
        owner = os.stat(f"/proc/{pid}").st_uid
        if owner != os.geteuid():
            raise PermissionError(f"pid {pid} belongs to uid {owner}, not to {os.geteuid()}")
        yield lambda: signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    finally:
        os.close(descriptor)


@functools.cache
def _surroundings() -> tuple[str, str]:
    if sys.platform != "linux":
        return socket.gethostname(), ""
    return _boot_id(), os.readlink("/proc/self/ns/pid")


def _boot_id() -> str:
    """Id of this boot; id of the machine where /proc lacks the former (systemd's ``ProcSubset=pid``)."""
    for path, prefix in (("/proc/sys/kernel/random/boot_id", ""), ("/etc/machine-id", _NO_BOOT_ID)):
        with contextlib.suppress(OSError), open(path) as file:
            if text := file.read().strip():
                return prefix + text
    return _NO_BOOT_ID + socket.gethostname()


if sys.platform == "linux":

    def _start_time(pid: int) -> int | None:
        """Start time of a live process; None for a dead one, and for a zombie, whose locks are free already."""
        try:
            descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY)  # half the time that a file object takes
            try:
                stat = os.read(descriptor, 4096)
            finally:
                os.close(descriptor)
        except (FileNotFoundError, ProcessLookupError):
            return None
        fields = stat.rpartition(b")")[2].split()  # the command's name may hold anything, so count from its end
        return None if fields[0] in b"ZXx" else int(fields[19])

else:

    def _start_time(pid: int) -> int | None:
        import psutil

        try:
            process = psutil.Process(pid)
            return None if process.status() == psutil.STATUS_ZOMBIE else round(process.create_time() * 1e6)
        except psutil.NoSuchProcess:
            return None
