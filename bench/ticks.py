"""4. Ticks: their cost, lateness, bursts, and the effect of a long history."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .claims import claims, claims_table
from .lateness import burst_table, bursts, lateness, lateness_tables
from .ledger_size import sizes, sizes_table
from .report import Report

KEPT = 500
"""Samples of a kind that are kept, chosen at random; the tables are of all."""

SEED = 20261123


def run(directory: Path, quick: bool) -> Report:
    """About four minutes; quick: one."""
    claimed = claims(directory / "claims", ticks=50 if quick else 500)
    late = lateness(directory / "lateness", rounds=1 if quick else 2, jobs=[10] if quick else [10, 1_000, 10_000])
    burst = bursts(directory / "bursts", repetitions=2 if quick else 7)
    sized = sizes(directory / "sizes", large=200_000 if quick else 10_000_000, rounds=4 if quick else 12)
    samples: dict[str, Any] = {
        "claim_ms": _some({f"{name}, durable={durable}": each for (name, durable), each in claimed.claim.items()}),
        "settle_ms": _some({f"{name}, durable={durable}": each for (name, durable), each in claimed.settle.items()}),
        "late_ms": _some({f"{count} jobs, {what}, {kind}": each for (count, what, kind), each in late.late.items()}),
        "requests_per_s": {f"{count} jobs, {kind}": each for (count, kind), each in late.rates.items()},
        "burst_ms": burst.took,
        "burst_settled_ms": burst.settled,
        "ledger_ms": _some({f"{what}, {runs} runs": each for (what, runs), each in sized.took.items()}),
        "ledger_written_s": {str(runs): round(seconds, 1) for runs, seconds in sized.wrote_s.items()},
    }
    tables = [claims_table(claimed), *lateness_tables(late), burst_table(burst), sizes_table(sized)]
    return Report("ticks", tables, samples)


def _some(samples: Mapping[str, list[float]]) -> dict[str, list[float]]:
    picked = random.Random(SEED)
    return {
        name: [round(each, 3) for each in (picked.sample(found, KEPT) if len(found) > KEPT else found)]
        for name, found in samples.items()
    }
