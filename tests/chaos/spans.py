"""When each term was held, as far as that is certain."""

from __future__ import annotations

from dataclasses import dataclass

from .history import History


@dataclass(slots=True)
class Span:
    """What is certain of a term's time in the seat: held at or before ``begun``, and at or after ``over``.

    A single sample gives ``begun`` later than ``over``: it was held at some instant between them.
    """

    begun: int
    over: int

    def add(self, earliest: int, latest: int) -> None:
        self.begun, self.over = min(self.begun, latest), max(self.over, earliest)


def spans(history: History) -> dict[int, Span]:
    """For each term what facts, the ledger and the workers' own word prove, in the order of their numbers."""
    found: dict[int, Span] = {}

    def add(term: int | None, earliest: int, latest: int) -> None:
        if term is not None:
            found.setdefault(term, Span(latest, earliest)).add(earliest, latest)

    for fact in history.facts:
        add(fact.term, fact.at, fact.at)
    for row in history.terms:
        add(row.term, row.began_ns, row.began_ns)
        if row.ended_ns is not None:
            add(row.term, row.ended_ns, row.ended_ns)
    for sample in history.samples:
        if sample.role == "leader" and sample.leader == sample.by:
            add(sample.term, sample.asked, sample.answered)
    return dict(sorted(found.items()))
