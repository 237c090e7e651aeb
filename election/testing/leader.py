"""An election that leads at once, without a pool."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from election.core.clock import Clock
from election.core.process import ProcessIdentity
from election.core.term import Term
from election.engines.engine import Engine
from election.engines.file.ledger import SqliteLedger

from .pool import MemoryPool, MemorySeat


class _ReservedSeat(MemorySeat):
    """Seat that is held as soon as its worker takes part."""

    async def open(self) -> None:
        await super().open()
        await super().campaign()

    async def campaign(self) -> Term | None:
        return self.held() or await super().campaign()


class _Election(Protocol):
    """Part of ``Election`` that is used here; the class is in a higher room and cannot be imported."""

    _clock: Clock
    _engine: Any
    _member: Any

    def _use(self, engine: Engine) -> None: ...


@contextmanager
def always_leader(election: _Election) -> Iterator[None]:
    """Let ``election`` lead alone as soon as it is started within the scope; its pool is not touched.

    >>> with always_leader(election), TestClient(app) as client:
    ...     assert client.get("/leader").status_code == 200

    Jobs run at their times, as they do in production; the seat is in memory, the ledger in a temporary directory that
    is gone afterwards. Raises ``RuntimeError`` if the election has been started.
    """
    if election._member is not None:
        raise RuntimeError("this Election has been started already: start it within always_leader(election)")
    former, clock = election._engine, election._clock
    process = ProcessIdentity(os.getpid(), 0, "memory", "", socket.gethostname())
    with tempfile.TemporaryDirectory(prefix="election-") as directory:
        path = os.path.join(directory, "ledger.db")
        election._use(
            Engine(
                name="memory",
                pool=former.pool,
                seat=_ReservedSeat(MemoryPool(clock), process),
                ledger=SqliteLedger(path, keeper=True, clock=clock),
                open_ledger=lambda: SqliteLedger(path, clock=clock),
                open_reader=lambda: SqliteLedger(path, look_only=True, clock=clock),
                examine=lambda: (),
                hang_trace=None,
                check=lambda: None,
            )
        )
        try:
            yield
        finally:
            election._use(former)
