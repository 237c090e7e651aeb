"""Other processes, named as the library names them."""

from __future__ import annotations

from dataclasses import replace

from election.core.process import ProcessIdentity, _start_time, current_process


def identity_of(pid: int) -> ProcessIdentity:
    """The identity of a process that runs on this machine."""
    start_time = _start_time(pid)
    assert start_time is not None, f"pid {pid} does not run"
    return replace(current_process(), pid=pid, start_time=start_time)
