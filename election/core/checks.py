"""Results of the checks of a pool and its surroundings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

START = "if workers run, one of them leads within seconds, or its log and /leader show why not; else start the pool"
"""Advice for a pool without a leader."""


class Severity(StrEnum):
    GOOD = "good"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Result of one check. ``advice``: what to do about the result."""

    grade: Severity
    text: str
    advice: str | None = None
