"""``python -m tests.simulate --seeds 2000 --first 0``: pools on a virtual clock, with faults, by the thousand.

Prints each seed that fails and how to have it again; exits 1 if there was one. A seed that fails is added to
``REGRESSIONS`` in ``tests/core/seeds.py``.
"""

from __future__ import annotations

import argparse
import sys

from tests.core.seeds import script_of, simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="only this one; also print what happens in it")
    options = parser.parse_args()

    seeds = range(options.first, options.first + options.seeds)
    if options.seed is not None:
        seeds = range(options.seed, options.seed + 1)
        size, script = script_of(options.seed)
        print(f"{size} workers")
        for happening, pause in script:
            print(f"  {happening}, then {pause:g} s")

    def tell(seed: int, wrong: str) -> None:
        print(f"seed {seed} failed: {wrong}\n  again: python -m tests.simulate --seed {seed}", flush=True)

    outcome = simulate(seeds, tell)
    print(outcome)
    return 1 if outcome.failed else 0


if __name__ == "__main__":
    sys.exit(main())
