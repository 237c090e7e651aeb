"""``python -m election completion SHELL``: a script for the shell, made by shtab from the command line itself.

A script in the language of the shell, so that a completion does not start Python.
"""

from __future__ import annotations

from argparse import Namespace

from election.core.distribution import install_command
from election.core.errors import ElectionError

SHELLS = ("bash", "zsh", "fish")


async def completion(options: Namespace) -> int:
    """Print the script. Raises ``ElectionError`` without shtab."""
    try:
        import shtab
    except ImportError as error:
        raise ElectionError(f"shtab writes the scripts, and is not installed: {install_command('cli')}") from error
    from .parsing import parser

    print(shtab.complete(parser("election", directory=shtab.DIRECTORY), shell=options.shell))
    return 0
