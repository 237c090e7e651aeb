"""``python -m election watch``: a live table of the pool, through whatever happens to it.

It looks four times a second, reads only and holds no lock, so a pool does not notice who watches it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from election.core.distribution import install_command
from election.core.errors import ElectionError

from .glance import Glance, Looker, Past
from .looking import engine_of
from .show import show_json

if TYPE_CHECKING:
    from rich.console import Console

EVERY = 0.25
"""Seconds between two looks."""

ROWS = 20
"""Entries of history that the largest terminal shows of each kind."""


async def watch(options: Namespace) -> int:
    """Show the pool as it changes, until q or Ctrl-C; 0 then.

    On a terminal the picture is drawn anew; elsewhere one follows the other at each change.
    Raises ``ElectionError`` without rich, ``PoolPathError`` without a pool.
    """
    looker = Looker(engine_of(options))
    console = None if options.json else _console()
    try:
        with _stopped() as stop:
            if console is None:
                await _each_change(looker, options, stop, lambda glance, _: _print_line(glance))
            elif console.is_terminal and not console.is_dumb_terminal and not options.once:
                await _draw(console, looker, options, stop)
            else:
                await _each_change(looker, options, stop, lambda glance, past: _print_frame(console, glance, past))
    finally:
        await looker.close()
    return 0


async def _each_change(
    looker: Looker, options: Namespace, stop: asyncio.Event, show: Callable[[Glance, Past], None]
) -> None:
    """Show the first glance, and each that says something else than the one before."""
    before: object = None
    if options.once:
        await looker.wait_for_a_beat()
    while not stop.is_set():
        glance, past = await looker.look(options.tag), await looker.past(options.tag, ROWS)
        now = {**glance.document(), "leader": glance.led and glance.record, "responsive": glance.responsive}
        if (now, past.terms[:1]) != before:
            before = now, past.terms[:1]
            show(glance, past)
            sys.stdout.flush()
        if options.once:
            return
        await _pause(stop)


async def _draw(console: Console, looker: Looker, options: Namespace, stop: asyncio.Event) -> None:
    from rich.live import Live

    from .frame import frame

    with _keys(stop), Live(console=console, screen=True, auto_refresh=False) as live:
        while not stop.is_set():
            glance, past = await looker.look(options.tag), await looker.past(options.tag, ROWS)
            live.update(frame(glance, past, *console.size, tag=options.tag), refresh=True)
            await _pause(stop)


async def _pause(stop: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), EVERY)


def _print_line(glance: Glance) -> None:
    show_json(glance.document(), indent=None)


def _print_frame(console: Console, glance: Glance, past: Past) -> None:
    from .frame import frame

    console.print(frame(glance, past, console.width, None))


def _console() -> Console:
    try:
        from rich.console import Console
    except ImportError as error:
        raise ElectionError(
            f"watch draws with rich, which is not installed: {install_command('cli')}; or take watch --json"
        ) from error
    return Console(highlight=False, markup=False, emoji=False)


# --- how it ends -----------------------------------------------------------------------------------------------------


@contextmanager
def _stopped() -> Iterator[asyncio.Event]:
    """An event that is set by Ctrl-C and SIGTERM, which end a look in good order."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    with contextlib.suppress(NotImplementedError, RuntimeError):  # Windows; or a loop that is not the main thread's
        for number in signals:
            loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        with contextlib.suppress(NotImplementedError, RuntimeError):
            for number in signals:
                loop.remove_signal_handler(number)


@contextmanager
def _keys(stop: asyncio.Event) -> Iterator[None]:
    """Within it, the key q sets ``stop``, and what is typed is not shown."""
    try:
        import termios
        import tty
    except ImportError:  # Windows: Ctrl-C is left
        yield
        return
    if not sys.stdin.isatty():
        yield
        return
    terminal, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    former = termios.tcgetattr(terminal)

    def pressed() -> None:
        keys = os.read(terminal, 1024)
        if not keys or b"q" in keys.lower():  # nothing to read: the terminal is gone
            stop.set()

    tty.setcbreak(terminal)
    loop.add_reader(terminal, pressed)
    try:
        yield
    finally:
        loop.remove_reader(terminal)
        termios.tcsetattr(terminal, termios.TCSADRAIN, former)
