"""A filesystem in a file, which a test can freeze or cut off from power. Needs root."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from .waiting import until

SHUTDOWN = 0x8004587D
"""``EXT4_IOC_SHUTDOWN``, ``_IOR('X', 125, __u32)``."""

PROBE = "probe"
"""File on the disk by which the time of a save is measured."""

WITHOUT_A_FLUSH = struct.pack("I", 2)


class NoDiskError(Exception):
    """No filesystem can be made and mounted here, for lack of root, for example."""


class Disk:
    """Make an ext4 filesystem in a file below ``directory``, not mounted yet."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "disk"
        self._image = directory / "image"
        self.path.mkdir(parents=True, exist_ok=True)
        with self._image.open("wb") as file:
            file.truncate(96 << 20)
        subprocess.run(["mkfs.ext4", "-q", str(self._image)], check=True, capture_output=True)

    @classmethod
    def mounted(cls, directory: Path) -> Disk:
        """Replace the remains of a killed process with a new one. Raises ``NoDiskError``."""
        if os.geteuid() != 0:
            raise NoDiskError("only root mounts filesystems")
        try:
            if (directory / "disk").is_mount():
                subprocess.run(["umount", "-l", str(directory / "disk")], check=True, capture_output=True)
            disk = cls(directory)
            disk.mount()
        except (OSError, subprocess.CalledProcessError) as error:
            raise NoDiskError(f"no filesystem can be made and mounted here: {error}") from error
        return disk

    def sync_takes(self) -> float:
        """Seconds that a save takes here now.

        It overwrites a block that is on the disk, and syncs the data alone: no file of the test is saved by that.
        """
        began = time.monotonic()
        with (self.path / PROBE).open("r+b", buffering=0) as file:
            for _ in range(3):
                os.pwrite(file.fileno(), os.urandom(4096), 0)
                os.fdatasync(file.fileno())
        return time.monotonic() - began

    def mount(self) -> None:
        """Mount it; the journal is replayed."""
        subprocess.run(["mount", "-o", "loop", str(self._image), str(self.path)], check=True, capture_output=True)
        with (self.path / PROBE).open("wb") as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())

    def unmount(self) -> None:
        """Unmount it; it is busy for a moment after its last user has died."""
        until(
            lambda: subprocess.run(["umount", str(self.path)], check=False, capture_output=True).returncode == 0,
            what="it is unmounted",
        )

    def cut(self) -> None:
        """Lose all writes that are not on the disk."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, WITHOUT_A_FLUSH)
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Scope in which every write waits."""
        subprocess.run(["fsfreeze", "-f", str(self.path)], check=True)
        try:
            yield
        finally:
            subprocess.run(["fsfreeze", "-u", str(self.path)], check=True)
