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
    """One thing that was looked at. ``advice``: what to do about it."""

    grade: Severity
    text: str
    advice: str | None = None
