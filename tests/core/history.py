"""Whether what a pool went through may have happened so."""

from __future__ import annotations

from collections.abc import Iterable

from election.testing import Happening


def violations(history: Iterable[Happening]) -> list[str]:
    """What in this history breaks P1 (one leader), P2 (terms only grow) or P5 (no job code outside a term).

    Understands what seats write, and ``begin`` and ``end`` of a term's work. A worker whose release failed may win
    the seat that it never gave up.
    """
    found = []
    holder: tuple[int, int] | None = None  # (worker, term)
    working: tuple[int, int] | None = None
    last = 0
    for line in history:
        this = (line.worker, line.term)
        match line.event:
            case "won":
                if holder is not None and (holder[0] != line.worker or working is not None):
                    found.append(f"P1: {this} won while {holder} held the seat, at {line.time:.3f}")
                if line.term <= last:
                    found.append(f"P2: {this} won after term {last}, at {line.time:.3f}")
                holder, last = this, max(last, line.term)
            case "begin":
                if holder != this or working is not None:
                    found.append(f"P5: work of {this} began while {holder} held and {working} worked")
                working = this
            case "end":
                if working != this:
                    found.append(f"P5: work of {this} ended, and {working} worked")
                working = None
            case "released":
                if working is not None or holder != this:
                    found.append(f"P5: {this} released while {holder} held and {working} worked")
                holder = None
            case "crashed" if holder is not None and holder[0] == line.worker:
                holder = working = None
    return found
