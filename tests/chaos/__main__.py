"""``python -m tests.chaos --seconds 60 --seed N --workers 6``: a chaos run, judged; the exit code is the verdict."""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
from pathlib import Path

from tests.support.pool import ROOT

from .history import History
from .judge import judge
from .kinds import SETTINGS
from .plan import draw
from .report import report, words
from .run import run


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    directory = options.directory or ROOT / "var/chaos" / f"{options.engine}-{options.seed}"
    kinds = SETTINGS[options.engine].kinds
    if options.only is not None:
        kinds = {name: kind for name, kind in kinds.items() if name in {"kill follower", *options.only}}
    plan = draw(options.seed, options.seconds, kinds)
    info = {name: getattr(options, name) for name in ("engine", "seed", "seconds", "workers")}
    print(
        f"seed {options.seed}: {len(plan)} faults in {options.seconds:g} s, {options.workers} workers on"
        f" {options.engine}; {directory}"
    )
    history = run(directory, plan, engine=options.engine, workers=options.workers, seconds=options.seconds)
    found = report(history, judge(history), **info)
    (directory / "report.json").write_text(json.dumps(found, indent=1) + "\n")
    title = f"chaos on {options.engine}, seed {options.seed}: {found['verdict']}"
    print("\n".join(words(found)))
    print(f"{directory / 'report.json'}, {_draw(history, directory / 'picture', title)}")
    print(
        f"again: python -m tests.chaos --engine {options.engine} --seconds {options.seconds:g} --seed {options.seed}"
        f" --workers {options.workers}"
    )
    return 1 if found["violations"] else 0


def _draw(history: History, path: Path, title: str) -> str:
    """Draw the picture of the run; return the names of its files, or the reason why there are none."""
    try:
        from .picture import draw_picture
    except ImportError as error:
        return f"no picture: {error}"
    return ", ".join(each.name for each in draw_picture(history, path, title))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Hurt a pool at random, and judge it.")
    parser.add_argument("--engine", choices=SETTINGS, default="file", help="what the pool is on (default: file)")
    parser.add_argument("--seconds", type=float, default=60, help="how long faults are injected (default: 60)")
    parser.add_argument("--seed", type=int, help="what the plan is drawn from (default: another one each time)")
    parser.add_argument("--workers", type=int, default=6, help="worker processes (default: 6)")
    parser.add_argument("--only", nargs="+", help="draw these kinds and 'kill follower' only (default: all)")
    parser.add_argument("--directory", type=Path, help="where everything goes (default: var/chaos/SEED)")
    options = parser.parse_args(arguments)
    if options.seed is None:
        options.seed = random.randrange(10**6)
    return options


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a script inherits an ignored SIGINT
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to stop"))  # and runs every clean-up
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted; every process of the pool has been ended")
