"""Where a pool is: its URL, in the parts that are the driver's and those that are ours."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit

from election.core.errors import ConfigurationError

DEFAULT = "election"
"""The name of a pool, and of a schema, unless the URL has another."""

_WHERE = {"host", "hostaddr", "port", "dbname", "service"}
"""Which of the driver's parameters say where the server is."""

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,29}")


@dataclass(frozen=True, slots=True)
class Address:
    """url: for the driver, secrets and all. pool: the URL without user and password, for people. schema: the
    PostgreSQL schema that holds this pool's tables, and nothing else."""

    url: str
    pool: str
    schema: str

    def key(self, what: str) -> int:
        """The number of an advisory lock of this pool: the same in every process, and for ever
        (docs/pitfalls.md#42)."""
        digest = hashlib.blake2b(f"election {what} {self.schema}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big", signed=True)

    @property
    def ledger_channel(self) -> str:
        """What is notified when somebody has written to the ledger what a leader must learn of."""
        return f"{self.channel}_ledger"

    @property
    def channel(self) -> str:
        """What is notified when there is something to see."""
        return f"election_{self.key('seat') % 2**64:016x}"


def parse(url: str) -> Address:
    """The address that ``url`` names. Raises ``ConfigurationError``; what it says holds no password."""
    parts = urlsplit(url)
    ours = {"pool": DEFAULT, "schema": DEFAULT}
    theirs = []
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in ours:
            theirs.append((name, value))
            continue
        if not _NAME.fullmatch(value):
            raise ConfigurationError(
                f"?{name}={value!r} is no name for a {name}: use up to 30 small letters, digits and underscores"
            )
        ours[name] = value
    shown = [(name, value) for name, value in theirs if name in _WHERE]
    shown += [(name, value) for name, value in ours.items() if value != DEFAULT]
    schema = ours["schema"] if ours["pool"] == DEFAULT else f"{ours['schema']}_{ours['pool']}"
    return Address(
        _url(parts.netloc, parts.path, theirs), _url(parts.netloc.rpartition("@")[2], parts.path, shown), schema
    )


def _url(netloc: str, path: str, query: list[tuple[str, str]]) -> str:
    return f"postgresql://{netloc}{path}" + (f"?{urlencode(query, safe='/')}" if query else "")
