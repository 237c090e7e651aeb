"""Pool directory: private, ours, local, and on a filesystem with a working flock (docs/pitfalls.md#4–#6, #20, #21)."""

from __future__ import annotations

import errno
import os
import stat
import tempfile

from filelock import lock_descriptor

from election.core.errors import PoolPathError, SeatError
from election.core.events import named
from election.core.logs import log

from .atomic_files import make_directories

NETWORK_FILESYSTEMS = frozenset((
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "9p", "afs", "ceph", "coda", "glusterfs", "lustre", "gpfs",
    "orangefs", "beegfs", "davfs",
))  # fmt: skip
"""Filesystems whose flock is emulated, optional or per client, and so may exclude nobody."""

SHARED_FOLDERS = frozenset((
    "virtiofs", "vboxsf", "prl_fs", "fakeowner", "fuse.grpcfuse", "osxfs", "fuse.osxfs", "vmhgfs", "fuse.vmhgfs-fuse",
))  # fmt: skip
"""Folders that a host shares with a machine or container: flock and SQLite are tried there (``probe.py``)."""

_WRONG = {errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
_uid = getattr(os, "geteuid", lambda: 0)  # Windows has no uids, and stat returns 0 there
_NO_FLOCK = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


class PoolDirectory:
    """Directory of one pool of the file engine.

    Args:
        path: Directory; made absolute here, so that a later ``chdir`` does not select another pool.
        allow_network_fs: Accept a filesystem on which flock may exclude nobody.
    """

    def __init__(self, path: str, *, allow_network_fs: bool = False) -> None:
        self.path = os.path.abspath(path)
        try:
            self.path.encode()
        except UnicodeEncodeError:
            raise PoolPathError(f"{self.path!a} is no UTF-8, so that no answer could name the pool") from None
        self.lock = os.path.join(self.path, "leader.lock")
        self.record = os.path.join(self.path, "leader.json")
        self.term = os.path.join(self.path, "leader.term")
        self.alive = os.path.join(self.path, "leader.alive")
        self.ledger = os.path.join(self.path, "ledger.db")
        self.hang_trace = os.path.join(self.path, "leader.stack")
        self.workers = os.path.join(self.path, "workers")
        self._allow_network_fs = allow_network_fs

    def prepare(self) -> None:
        """Create the directory if it is missing and make sure that it is private and ours; cheap enough to repeat.

        Raises:
            PoolPathError: A condition that needs an operator.
            SeatError: A condition that may pass (disk full, no descriptors).
        """
        try:
            if not os.path.lexists(self.path):
                make_directories(self.path, 0o700)
            self._check(os.lstat(self.path))
            make_directories(self.workers, 0o700)
        except FileExistsError as error:
            raise PoolPathError(_not_a_directory(error.filename)) from error
        except OSError as error:
            if error.errno in _WRONG:
                raise PoolPathError(
                    f"the pool directory {self.path} cannot be used by uid {_uid()}: {error.strerror}"
                    f" ({error.filename}); choose a directory that this user can write"
                ) from error
            raise SeatError(f"the pool directory {self.path} cannot be prepared: {error.strerror}") from error

    def check(self) -> None:
        """Raise ``PoolPathError`` if the directory cannot hold a pool; log a condition that may pass."""
        try:
            self.prepare()
            self.check_filesystem()
        except SeatError as error:
            log.warning("the pool is not ready: %s", error, extra=named("pool_not_ready"))

    def check_filesystem(self) -> None:
        """Check, once at start, that flock works here. Raises like ``prepare``."""
        kind = filesystem_type(os.path.realpath(self.path))
        if not self._allow_network_fs:
            self._check_type(kind)
        if self.path.startswith(_temporary_directories()):
            log.warning(
                "%s is under a temporary directory, which cleaners empty; a state directory is safer",
                self.path,
                extra=named("temporary_directory"),
            )
        try:
            with tempfile.TemporaryFile(dir=self.path) as probe:
                lock_descriptor(probe.fileno(), blocking=False)
        except OSError as error:
            if error.errno in _NO_FLOCK:
                raise PoolPathError(
                    f"{self.path} is on {kind}, which has no flock; use a directory on a local filesystem"
                ) from error
            raise SeatError(f"flock cannot be tried in {self.path}: {error.strerror}") from error

    def _check_type(self, kind: str) -> None:
        if kind in SHARED_FOLDERS:
            self._probe(kind)
        elif kind in NETWORK_FILESYSTEMS or kind.startswith("fuse"):
            raise PoolPathError(
                f"{self.path} is on {kind}, where flock may exclude nobody;"
                " use a local directory, or pass allow_network_fs=True if you know that it does"
            )

    def _probe(self, kind: str) -> None:
        from .probe import probe_shared_folder

        failure = probe_shared_folder(self.path)
        if failure is not None:
            raise PoolPathError(
                f"{self.path} is on {kind}, a folder shared with the host, and {failure}: two workers could lead, or"
                " the ledger be damaged; use a directory inside of the machine or container, such as a volume"
            )

    def missing(self) -> str | None:
        """Problem text if there is no pool; None if there may be one."""
        if os.path.isdir(self.path):
            return None
        what = "it is a file" if os.path.exists(self.path) else "nothing is there"
        return f"there is no pool at {self.path}: {what}; name the pool's directory"

    def closed(self) -> str | None:
        """Problem text if this user may not read the pool, which would look vacant; None if it may."""
        if os.access(self.path, os.R_OK | os.X_OK):
            return None
        return f"{self.path} cannot be read by this user; run this command as the user of the workers"

    def _check(self, found: os.stat_result) -> None:
        if stat.S_ISLNK(found.st_mode):
            raise PoolPathError(
                f"{self.path} is a symbolic link, which somebody could point elsewhere;"
                f" name the directory itself: {os.path.realpath(self.path)}"
            )
        if not stat.S_ISDIR(found.st_mode):
            raise PoolPathError(_not_a_directory(self.path))
        if found.st_uid != _uid():
            raise PoolPathError(
                f"{self.path} belongs to uid {found.st_uid}, and this process runs as uid {_uid()};"
                " whoever owns it could lead in our place: chown it, or choose another directory"
            )
        if found.st_mode & 0o777 != 0o700:
            if os.listdir(self.path) and not os.path.lexists(self.lock):
                raise PoolPathError(
                    f"{self.path} holds other files and others may enter it; a pool needs a directory of its own"
                )
            os.chmod(self.path, 0o700)


def filesystem_type(path: str, mountinfo: str = "/proc/self/mountinfo") -> str:
    """Type of the filesystem of ``path``, such as ``ext4``; empty where the system does not list mounts."""
    try:
        with open(mountinfo, errors="surrogateescape") as file:
            mounts = [line.split() for line in file]
    except OSError:
        return ""
    best, kind = "", ""
    for fields in mounts:  # see proc(5): the mount point is field 5, the type follows the lone dash
        point = fields[4].replace("\\040", " ")
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, fields[fields.index("-") + 1]
    return kind


def _temporary_directories() -> tuple[str, ...]:
    """Beginnings of the paths in temporary directories; a machine may have none that can be written."""
    try:
        return tempfile.gettempdir() + os.sep, "/tmp/", "/var/tmp/"
    except FileNotFoundError:
        return "/tmp/", "/var/tmp/"


def _not_a_directory(path: str) -> str:
    return f"{path} is a file, not a directory; a pool is a directory, so choose another path"
