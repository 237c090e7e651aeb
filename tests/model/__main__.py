"""``python -m tests.model [--depth N] [--full]``: explore the model beyond what the test suite has time for.

Prints the number of states and the violations of each search; exits 1 if a promise was broken, or a planted bug was not
found. Without ``--full``, what the suite does.
"""

from __future__ import annotations

import argparse
import sys
import time

from .explore import Found, explore
from .searches import FULL, LIMITS, PLANTED, PLANTED_DEEP, SUITE
from .world import Rules

AT_MOST = 2_000_000
"""Maximum number of states of one search, which take about five gigabytes."""


def search(name: str, rules: Rules, depth: int | None, *, trace: bool) -> Found:
    began = time.perf_counter()
    found = explore(rules, depth=depth, states=AT_MOST)
    extent = "all" if found.complete else f"to depth {found.depth}"
    result = found.violation or "0 violations"
    print(f"{name}: {found.states:,} states, {extent}; {result}; {time.perf_counter() - began:.1f} s", flush=True)
    if trace:
        for line in found.trace:
            print(f"    {line}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--depth", type=int, help="steps from the start; without it, to the end, or two million states")
    parser.add_argument("--full", action="store_true", help="larger budgets as well: minutes, and gigabytes")
    parser.add_argument("--traces", action="store_true", help="print the shortest history of each bug and limit")
    options = parser.parse_args()

    searches = SUITE | (FULL if options.full else {})
    wrong = 0
    for name, rules in searches.items():
        wrong += search(name, rules, options.depth, trace=True).violation is not None
    for name, rules in (PLANTED | PLANTED_DEEP).items():
        found = search(f"without {name!r}", rules, None, trace=options.traces)
        wrong += found.violation is None
    for name, rules in LIMITS.items():
        search(f"beyond what is promised: {name}", rules, None, trace=options.traces)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
