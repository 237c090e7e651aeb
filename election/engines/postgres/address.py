"""Address of a pool: the driver's part of the URL, and ours."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlencode

from election.core.errors import ConfigurationError

DEFAULT = "election"
"""Default name of a pool, and of a schema."""

_WHERE = {"host", "hostaddr", "port", "dbname", "service"}
"""Parameters of the driver that locate the server."""

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,29}")


@dataclass(frozen=True, slots=True)
class Address:
    """Server and schema of a pool.

    Attributes:
        url: URL for the driver, with secrets.
        pool: URL without user and password, for display.
        schema: PostgreSQL schema that holds this pool's tables, and nothing else.
    """

    url: str
    pool: str
    schema: str

    def key(self, name: str) -> int:
        """Number of an advisory lock of this pool: the same in every process and version
        (docs/pitfalls.md#42)."""
        digest = hashlib.blake2b(f"election {name} {self.schema}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big", signed=True)

    @property
    def ledger_channel(self) -> str:
        """Channel that is notified of writes to the ledger that concern the leader."""
        return f"{self.channel}_ledger"

    @property
    def channel(self) -> str:
        """Channel that is notified of changes of the leader record."""
        return f"election_{self.key('seat') % 2**64:016x}"


def parse(url: str) -> Address:
    """Address that ``url`` names. Raises ``ConfigurationError``, whose message has no password."""
    login, host, path, query = _split(url)
    ours = {"pool": DEFAULT, "schema": DEFAULT}
    theirs = []
    for name, value in _parameters(query):
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
    return Address(_url(login + host, path, theirs), _url(host, path, shown), schema)


def _split(url: str) -> tuple[str, str, str, str]:
    """Split a URL as libpq does: into login (with its ``@``), host, path and query.

    The login goes up to the first ``@`` that no slash precedes, whatever characters are in it; there is no fragment.
    """
    text = url.partition("://")[2]
    found = re.match(r"[^/@]*@", text)
    login = found[0] if found else ""
    place, _, query = text[len(login) :].partition("?")
    host, slash, name = place.partition("/")
    return login, host, slash + name, query


def _parameters(query: str) -> Iterator[tuple[str, str]]:
    """Parameters of a query as libpq reads them: a plus sign is no space."""
    for parameter in filter(None, query.split("&")):
        name, _, value = parameter.partition("=")
        yield unquote(name), unquote(value)


def _url(netloc: str, path: str, query: list[tuple[str, str]]) -> str:
    return f"postgresql://{netloc}{path}" + (f"?{urlencode(query, safe='/', quote_via=quote)}" if query else "")
