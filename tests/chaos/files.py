"""The ground of the file engine: a directory, and faults of its files."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

from tests.support.disk import Disk, NoDiskError

from .grounds import BEYOND_TIME, Injury, NotPossibleError, Seen, Undo, spoiling


def _to(name: str, do: Callable[[Path], object]) -> Injury:
    def action(ground: FileGround, _: float) -> None:
        ground._check()  # or a write would wait here, and nobody would end the freeze
        try:
            do(ground.pool / name)
        except FileNotFoundError as error:
            raise NotPossibleError(str(error)) from error

    return action


def _put(path: Path, content: bytes = b"") -> None:
    new = path.with_name(f"{path.name}.put-here")
    new.write_bytes(content)
    new.chmod(0o600)
    new.rename(path)


class FileGround:
    """A pool in a directory that its workers make, on a disk that can be frozen if this runs as root."""

    actions: ClassVar[Mapping[str, Injury]] = {
        "remove lock": _to("leader.lock", os.unlink),
        "rename lock": _to("leader.lock", lambda path: path.rename(f"{path}.moved")),
        "replace lock": _to("leader.lock", _put),
        "remove record": _to("leader.json", os.unlink),
        "empty record": _to("leader.json", lambda path: os.truncate(path, 0)),
        "garble record": _to("leader.json", lambda path: _put(path, b'{"term": \xff, "standing": "leading"')),
        "remove number": _to("leader.term", os.unlink),
        "remove fifo": _to("leader.alive", os.unlink),
        "replace fifo": _to("leader.alive", _put),
        "freeze disk": lambda ground, _: ground.freeze(),
    }

    def __init__(self, directory: Path) -> None:
        self._kept = directory / "pool"
        self._disk: Disk | None = None
        with contextlib.suppress(NoDiskError):
            self._disk = Disk.mounted(directory)
        self.pool = self.ledger = self._kept if self._disk is None else self._disk.path / "pool"
        self.environment: Mapping[str, str] = {}
        self.away = False

    def freeze(self) -> Undo:
        """Let every write to the pool wait."""
        if self._disk is None:
            raise NotPossibleError("no filesystem can be mounted here")
        stack = ExitStack()
        stack.enter_context(self._disk.frozen())
        self.away = True

        def thaw() -> None:
            stack.close()
            self.away = False

        return thaw

    def copy(self, name: str) -> Path:
        """As an administrator copies it, who does not know that it runs."""
        self._check()
        copied = self._kept.with_name(name) / "pool"
        copied.parent.mkdir()
        if subprocess.run(["cp", "-a", self.pool, copied], capture_output=True, check=False).returncode:
            raise NotPossibleError("files vanished in the middle of the copy")
        return copied

    def spoil(self, job_id: str) -> Undo:
        self._check()

        def put(number: int) -> None:
            with contextlib.closing(sqlite3.connect(self.pool / "ledger.db", timeout=5)) as ledger, ledger:
                for statement in spoiling(number):
                    ledger.execute(statement, (job_id,))

        put(BEYOND_TIME)
        return lambda: put(0)

    def _check(self) -> None:
        if self.away:
            raise NotPossibleError("the disk is frozen")

    def look(self) -> Seen:
        record = self._record()
        leads = record is not None and record["standing"] == "leading"
        try:
            names = sorted(os.listdir(self.pool / "workers"))
        except FileNotFoundError:
            names = []
        return Seen(
            record["holder"]["pid"] if record is not None and leads else None,
            record["term"] if record is not None else None,
            [int(name.partition("-")[0]) for name in names if name.endswith(".json")],
        )

    def _record(self) -> dict[str, Any] | None:
        try:
            return dict(json.loads((self.pool / "leader.json").read_bytes()))
        except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
            return None  # damaged a moment ago

    def close(self) -> None:
        """Keep the pool beside the disk for later inspection, and unmount the disk."""
        if self._disk is None:
            return
        if self.pool.exists():
            shutil.copytree(self.pool, self._kept, ignore=shutil.ignore_patterns("leader.alive"))
        self._disk.unmount()
