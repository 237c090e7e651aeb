"""Address of a pool: server, database and key prefix, parsed from its URL."""

from __future__ import annotations

import codecs
import contextlib
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from redis.asyncio.connection import ConnectionPool

from election.core.errors import ConfigurationError

TIMEOUT_S = 2.0
"""Timeout of a connection or an answer, unless the URL has ``socket_timeout``."""

_FORMS = "redis://HOST:PORT/DB?pool=NAME, rediss:// for TLS, redis+unix:///PATH?db=DB&pool=NAME for a socket"


@dataclass(frozen=True, slots=True)
class Address:
    """A pool in a Redis server.

    Attributes:
        url: URL for the driver, with secrets.
        pool: URL without secrets, for display.
        prefix: Prefix of all keys; its hash tag keeps them in one slot of a Redis Cluster.
    """

    url: str
    pool: str
    prefix: str


def address_of(url: str) -> Address:
    """Address that ``url`` names. Raises ``ConfigurationError``; does no I/O."""
    try:
        parts = urlsplit(url)
        port = parts.port
        if parts.fragment or "@" in parts.path + parts.query:  # a password that has been cut
            raise ValueError
    except ValueError:  # its text may have a part of the password
        raise ConfigurationError(
            f"the pool's URL cannot be read; write {_FORMS}, and special characters of a password as %23 (#), %2F (/),"
            " %3F (?), %40 (@)"
        ) from None
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    name = query.pop("pool", "election")
    if not re.fullmatch(r"[\w.:-]+", name):
        raise ConfigurationError(f"?pool={name!r} in the URL: use letters, digits and . : - _")
    unix = parts.scheme == "redis+unix"
    if (unix and not parts.path) or not (unix or parts.hostname):
        raise ConfigurationError(f"the pool's URL names no server; write {_FORMS}")
    if not unix and not re.fullmatch(r"/?\d*", parts.path):
        raise ConfigurationError(f"{parts.path!r} in the pool's URL is no number of a database; write {_FORMS}")
    timeouts = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": query.get("socket_timeout", TIMEOUT_S)}
    driver = urlunsplit(
        ("unix" if unix else parts.scheme, parts.netloc, parts.path, urlencode({**timeouts, **query}), "")
    )
    try:
        ConnectionPool.from_url(driver, **OPTIONS).make_connection()
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"the driver cannot read the pool's URL: {_without_class(error)}") from error
    place = parts.path if unix else f"{parts.path.strip('/') or query.get('db', '0')}"
    where = f"{parts.hostname}:{port or 6379}/{place}" if not unix else f"{place}?db={query.get('db', '0')}"
    shown = f"{parts.scheme}://{where}{'&' if unix else '?'}pool={name}"
    return Address(driver, unquote(shown), f"election:{{{name}}}:")


def _without_class(error: Exception) -> str:
    return re.sub(r"^\w+\.__init__\(\) ", "", str(error))


def _any_text(error: UnicodeError) -> tuple[str | bytes, int]:
    """Convert half a character, and bytes that are no text, which no worker writes, and which spoil only their row."""
    ways = ["surrogatepass", "surrogateescape"]
    for way in reversed(ways) if isinstance(error, UnicodeEncodeError) else ways:
        with contextlib.suppress(UnicodeError):
            return codecs.lookup_error(way)(error)
    raise error


ANY_TEXT = "election-any-text"
"""Name of the error handler with which texts and bytes are converted."""

codecs.register_error(ANY_TEXT, _any_text)


def _options() -> dict[str, Any]:
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    # The driver must not retry: a repeated write whose answer was lost would be refused because of its own first run.
    # Without driver_info, a connection neither reads the driver's version from the disk nor sends it to the server.
    return {
        "decode_responses": True,
        "encoding_errors": ANY_TEXT,
        "retry": Retry(NoBackoff(), 0),
        "driver_info": None,
    }


OPTIONS = _options()
