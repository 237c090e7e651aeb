"""``python -m election …``: looks at a pool from outside, whether it is alive or not."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import traceback
from collections.abc import Sequence

from election.core.errors import ElectionError

from . import commands
from .doctor import doctor
from .status import status

EXAMPLES = """\
examples:
  python -m election status --pool var/pool
  python -m election runs --pool var/pool --job app.jobs:report --outcome failed
  python -m election verify --pool var/pool && echo all promises held

exit codes: 0 as it should be; 1 nobody leads (status), a promise was broken (verify), something is wrong (doctor);
2 the command itself could not do its work.
"""

LARGEST = 2**63 - 1
"""The largest number that a ledger can be asked for."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        code = int(asyncio.run(options.command(options)))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough; what is left must not be written at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    except (ElectionError, OSError) as error:
        print(f"election: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 2
    except Exception:  # Python's own exit code for it means something else here
        traceback.print_exc()
        return 2
    return code


def parser() -> argparse.ArgumentParser:
    """The command line, with each command's options and its function."""
    parser = argparse.ArgumentParser(
        prog="python -m election",
        description="Look at a pool from outside.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands_of = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: object, text: str) -> argparse.ArgumentParser:
        added = commands_of.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        added.add_argument("--pool", required=True, metavar="DIR", help="the pool's directory")
        added.add_argument("--json", action="store_true", help="for machines")
        added.set_defaults(command=command)
        return added

    add("status", status, "who leads, which workers there are, what the jobs do")
    for name, command, text in (
        ("runs", commands.runs, "what was run, latest first"),
        ("skips", commands.skips, "which ticks had no run, and why, latest first"),
        ("terms", commands.terms, "who led when, latest first"),
    ):
        pages = add(name, command, text)
        pages.add_argument("--limit", type=_number, default=20, metavar="N", help="so many at most (20)")
        pages.add_argument("--before", type=_number, metavar="N", help="only those before this number")
        if name != "terms":
            pages.add_argument("--job", metavar="ID", help="only this job's")
        if name == "runs":
            pages.add_argument("--outcome", choices=("running", "succeeded", "failed", "interrupted"))
    add("verify", commands.verify, "whether the recorded history keeps the promises P1 to P4")
    add("doctor", doctor, "whether the pool's ground is sound, and what to do if not")
    add("resign", commands.resign, "ask the leader to give the seat up in good order")
    return parser


def _number(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= LARGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)
