"""``python -m bench NAME … [--quick]``: measure, print, and write the results into the documents."""

from __future__ import annotations

import argparse
import importlib
import shlex
import signal
import sys
import tempfile
import time
from pathlib import Path

from .machine import describe

NAMES = ("takeover", "fire", "idle", "ticks", "http", "growth", "jobs")
"""One module each, with ``run(directory: Path, quick: bool) -> Report``."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all unless given")
    parser.add_argument(
        "--quick", action="store_true", help="a few repetitions, to see that it works; writes no results"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no pool is left behind
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    for name in options.names or NAMES:
        facts = {**describe(), "command": f"python -m bench {shlex.join(sys.argv[1:])}".strip()}
        print(f"== {name}", flush=True)
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="election-bench-") as directory:
            report = importlib.import_module(f"bench.{name}").run(Path(directory), options.quick)
        for table in report.tables:
            print(f"\n{table.text()}")
        print(f"\n{name}: {time.monotonic() - began:.0f} s\n", flush=True)
        if not options.quick:
            report.facts.update(facts, took_s=round(time.monotonic() - began))
            report.write()


if __name__ == "__main__":
    main()
