"""``python -m election watch``: a live table of the pool, which survives failures of the pool.

Polls four times a second, read only and without a lock, so that the pool is not disturbed.
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

from .open_pool import engine_of
from .pool_status import PoolStatus, RecentHistory, StatusReader
from .show import show_json

if TYPE_CHECKING:
    from rich.console import Console

REFRESH_INTERVAL_S = 0.25
"""Seconds between two polls."""

MAX_ROWS = 20
"""Maximum entries of history of each kind, on the largest terminal."""

PRINTED_COLUMNS = 1000
"""Maximum width of a line for a file or another program, which has no width of its own. Like that of ps, it is cut only
where COLUMNS asks for it."""


async def watch(options: Namespace) -> int:
    """Show the pool as it changes, until q or Ctrl-C; 0 then.

    On a terminal the frame is redrawn; elsewhere a new frame is printed at each change.
    Raises ``ElectionError`` without rich, ``PoolPathError`` without a pool.
    """
    reader = StatusReader(engine_of(options))
    console = None if options.json else _console()
    try:
        with _stopped() as stop:
            if console is None:
                await _each_change(reader, options, stop, lambda snapshot, _: _print_line(snapshot))
            elif console.is_terminal and not console.is_dumb_terminal and not options.once:
                await _draw(console, reader, options, stop)
            else:
                await _each_change(
                    reader, options, stop, lambda snapshot, recent: _print_frame(console, snapshot, recent)
                )
    finally:
        await reader.close()
    return 0


async def _each_change(
    reader: StatusReader, options: Namespace, stop: asyncio.Event, show: Callable[[PoolStatus, RecentHistory], None]
) -> None:
    """Show the first status, and each one that differs from the one before."""
    before: object = None
    if options.once:
        await reader.wait_for_heartbeat()
    while not stop.is_set():
        snapshot, recent = await reader.look(options.tag), await reader.recent(options.tag, MAX_ROWS)
        now = {**snapshot.document(), "leader": snapshot.led and snapshot.record, "responsive": snapshot.responsive}
        if (now, recent.terms[:1]) != before:
            before = now, recent.terms[:1]
            show(snapshot, recent)
            sys.stdout.flush()
        if options.once:
            return
        await _pause(stop)


async def _draw(console: Console, reader: StatusReader, options: Namespace, stop: asyncio.Event) -> None:
    from rich.live import Live

    from .frame import frame

    with _keys(stop), Live(console=console, screen=True, auto_refresh=False) as live:
        while not stop.is_set():
            snapshot, recent = await reader.look(options.tag), await reader.recent(options.tag, MAX_ROWS)
            live.update(frame(snapshot, recent, *console.size, tag=options.tag), refresh=True)
            await _pause(stop)


async def _pause(stop: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), REFRESH_INTERVAL_S)


def _print_line(snapshot: PoolStatus) -> None:
    show_json(snapshot.document(), indent=None)


def _print_frame(console: Console, snapshot: PoolStatus, recent: RecentHistory) -> None:
    from .frame import frame

    console.print(frame(snapshot, recent, console.width, None))


def _console() -> Console:
    try:
        from rich.console import Console
    except ImportError as error:
        raise ElectionError(
            f"watch draws with rich, which is not installed: {install_command('cli')}; or take watch --json"
        ) from error
    console = Console(highlight=False, markup=False, emoji=False)
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS", "").isdigit():
        console.width = PRINTED_COLUMNS
    return console


# --- stopping --------------------------------------------------------------------------------------------------------


@contextmanager
def _stopped() -> Iterator[asyncio.Event]:
    """An event that is set by Ctrl-C and SIGTERM, for an orderly end."""
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
    """Within the scope, the key q sets ``stop``, and typed characters are not echoed."""
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
