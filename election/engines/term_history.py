"""What a ledger remembers of earlier terms, for a seat that begins the next one (P2)."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from election.core.errors import LedgerError
from election.core.events import named
from election.core.term import LeaderRecord

log = logging.getLogger("election")


class TermHistory(Protocol):
    """The part of a ledger that a seat asks."""

    async def last_term(self) -> int:
        """The largest number of a term that was begun; 0 if none."""

    async def was_fenced(self, term: int) -> bool:
        """Whether somebody set out to fence that term."""

    async def close(self) -> None:
        """Let go of it; using it again opens it again."""


async def last_known_term(memory: TermHistory | None, before: LeaderRecord | None) -> tuple[int, bool]:
    """The last term that the ledger knows, and whether the one of ``before`` was fenced.

    Without a ledger, or if it cannot be asked: 0 and False. Never raises ``LedgerError``.
    """
    if memory is None:
        return 0, False
    try:
        fenced = memory.was_fenced(before.term if before else 0)
        last, was_fenced = await asyncio.gather(memory.last_term(), fenced)
    except LedgerError as error:
        log.warning("the ledger was not asked for the last term: %s", error, extra=named("last_term_unknown"))
        return 0, False
    return last, was_fenced
