"""End of a child process with its parent, even when the parent is killed."""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def end_with_parent() -> Callable[[], None] | None:
    """Function for ``preexec_fn`` that makes the kernel kill the child when its parent ends; None where that is
    impossible.

    The kernel watches the thread that starts the child, so only the main thread of a process may call this.
    """
    if _libc is None or threading.current_thread() is not threading.main_thread():
        return None
    prctl = _libc.prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) and None
