"""Ending a child process with its parent, however the parent ends."""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def end_with_parent() -> Callable[[], None] | None:
    """For ``preexec_fn``: the kernel kills the child when its parent is gone. None where that cannot be done.

    The kernel watches the thread that starts the child, so only the main thread of a process may ask for it.
    """
    if _libc is None or threading.current_thread() is not threading.main_thread():
        return None
    prctl = _libc.prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) and None
