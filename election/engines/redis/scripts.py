"""Lua scripts that run in the server, each one atomic."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Script:
    """Text of a script, and the hash by which the server caches it."""

    text: str
    sha: str


def _script(*parts: str) -> Script:
    folder = Path(__file__).parent / "lua"
    text = "\n".join((folder / f"{part}.lua").read_text() for part in ("call", *parts))
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


PEEK = _script("peek")
GRANT = _script("grant")
RENEW = _script("renew")
RELEASE = _script("release")
LOOK = _script("look")
LEAVE = _script("leave")
WRITE = _script("job_index", "entries", "changes", "write")
STATE = _script("job_index", "state")
OVERVIEW = _script("job_index", "overview")
JOBS_AFTER = _script("job_index", "jobs_after")
WINDOW = _script("window")
PRUNE = _script("prune")
