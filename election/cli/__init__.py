"""Command line, ``python -m election …`` or ``election …``: inspects a pool from outside, running or not."""

from __future__ import annotations

import asyncio
import io
import os
import sys
import traceback
from collections.abc import Sequence

from election.core.errors import ElectionError

from .parsing import parser

__all__ = ["main", "parser", "run"]


def run() -> int:
    """The command ``election``; returns the exit code."""
    return main(program="election")


def main(arguments: Sequence[str] | None = None, *, program: str = "python -m election") -> int:
    """Run a command; returns the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # an id or a description may have letters that the terminal lacks
        sys.stdout.reconfigure(errors="replace")
    options = parser(program).parse_args(arguments)
    try:
        code = int(asyncio.run(options.command(options)))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader closed the pipe; the rest must not be written at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2 if options.judges else 0  # an unread verdict does not count
    except (ElectionError, OSError) as error:
        print(f"election: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 2
    except Exception:  # Python's exit code 1 has another meaning here
        traceback.print_exc()
        return 2
    return code
