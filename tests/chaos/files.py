"""The file engine's ground: a directory, and what somebody may do to the files in it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from .grounds import Injury, NotPossibleError, Seen


def _to(name: str, do: Callable[[Path], object]) -> Injury:
    def action(ground: FileGround, _: float) -> None:
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
    """A pool in ``path``, which its workers make."""

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
    }

    def __init__(self, path: Path) -> None:
        self.pool = self.ledger = path
        self.environment: Mapping[str, str] = {}

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
            return None  # spoilt a moment ago

    def close(self) -> None:
        pass
