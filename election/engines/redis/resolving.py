"""Connections that resolve the server's name in the election's own threads, and not in the application's."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio.connection import AbstractConnection, Connection, ConnectionPool, SSLConnection

from election.core.threads import resolve


class _ResolvingConnection(Connection):
    """A TCP connection to the first address of its host that accepts it."""

    _resolved = ""

    async def _connect(self) -> None:
        async with asyncio.timeout(self.socket_connect_timeout):
            *others, last = await resolve(self.host, self.port)
        for address in others:
            self._resolved = address
            try:
                await super()._connect()  # type: ignore[no-untyped-call]
            except OSError:
                continue
            return
        self._resolved = last
        await super()._connect()  # type: ignore[no-untyped-call]

    def _connection_arguments(self) -> dict[str, Any]:
        return {**super()._connection_arguments(), "host": self._resolved}


class _ResolvingSSLConnection(_ResolvingConnection, SSLConnection):
    """A TLS connection of the same kind; the certificate has to be for the host's name."""

    def _connection_arguments(self) -> dict[str, Any]:
        return {**super()._connection_arguments(), "server_hostname": self.host}


_RESOLVING: dict[type[AbstractConnection], type[AbstractConnection]] = {
    Connection: _ResolvingConnection,
    SSLConnection: _ResolvingSSLConnection,
}


def make_connection_pool(url: str, **options: Any) -> ConnectionPool:
    """``ConnectionPool.from_url`` with connections that resolve names as this module does."""
    pool = ConnectionPool.from_url(url, **options)
    pool.connection_class = _RESOLVING.get(pool.connection_class, pool.connection_class)
    return pool
