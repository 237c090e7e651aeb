"""Results of the checks of a pool and its surroundings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
