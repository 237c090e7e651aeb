"""The scripts that run in the server, each one whole: Redis runs nothing beside a script."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Script:
    """A script, and the name under which a server that has seen it keeps it."""

    text: str
    sha: str


def _script(*parts: str) -> Script:
    folder = Path(__file__).parent / "lua"
    text = "\n".join((folder / f"{part}.lua").read_text() for part in parts)
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


PEEK = _script("peek")
GRANT = _script("grant")
RENEW = _script("renew")
RELEASE = _script("release")
LOOK = _script("look")
LEAVE = _script("leave")
WRITE = _script("entries", "changes", "write")
STATE = _script("state")
WINDOW = _script("window")
PRUNE = _script("prune")
AUDIT = _script("audit")
