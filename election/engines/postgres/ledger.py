"""The ledger of the PostgreSQL engine: the pool's schema in the server's database."""

from __future__ import annotations

import contextlib

from election.core.clock import Clock
from election.core.errors import LedgerError, LedgerVersionError
from election.engines.sql.store import SqlStore
from election.schedule.ledger import Ledger

from .address import Address
from .database import TRANSACTION_TIMEOUT_S, PostgresDatabase
from .preflight import Preflight

READER_TIMEOUT_S = 600.0
"""Maximum seconds for a reader's query: ``verify`` reads all of the history."""


class PostgresStore(SqlStore):
    """Store in a schema of a database."""

    def __init__(self, database: PostgresDatabase, preflight: Preflight) -> None:
        super().__init__(database)
        self._preflight = preflight

    def check(self) -> None:
        self._preflight.check_version()


class PostgresLedger(Ledger):
    """A ledger in a schema of a database.

    durable: whether each commit waits for synchronous standbys too. look_only: read, never create or change anything.
    clock: dates what is written.
    """

    def __init__(
        self,
        address: Address,
        preflight: Preflight,
        *,
        durable: bool = False,
        look_only: bool = False,
        clock: Clock | None = None,
    ) -> None:
        timeout_s = READER_TIMEOUT_S if look_only else TRANSACTION_TIMEOUT_S
        database = PostgresDatabase(
            address, durable=durable, look_only=look_only, timeout_s=timeout_s, preflight=preflight
        )
        super().__init__(PostgresStore(database, preflight), clock)
        self.give_up = database.give_up

    async def get_ready(self) -> None:
        """Connect ahead of the first use."""
        with contextlib.suppress(LedgerError, LedgerVersionError):  # the first use reports it
            await self.latest_terms()
