"""The reason why nobody leads, in the same words in every view."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Call
from tests.cli.terminal import Terminal
from tests.support.pool import WorkerPool
from tests.support.replacing import replace_by_directory
from tests.support.waiting import until


@pytest.mark.extended
def test_the_log_the_routes_and_the_commands_give_the_same_reason(pair: WorkerPool, call: Call) -> None:
    pair.start(2)
    lock = pair.path / "leader.lock"
    replace_by_directory(lock)
    reason = f"{lock} cannot be locked: Is a directory (EISDIR)"

    def says(*command: str) -> str:
        code, out, err = call(command[0], pair.path, *command[1:])
        return f"{code}: {out} {err}"

    def not_ready_because() -> set[str]:
        return {str(worker.request("GET", "/readyz").json().get("detail")) for worker in pair.alive}

    until(lambda: not_ready_because() == {reason}, what=not_ready_because)
    until(
        lambda: all(reason in str(worker.document()["problem"]) for worker in pair.alive), what=lambda: says("status")
    )
    assert f"the election failed in this worker, and is tried again: {reason}" in pair.log.read_text()
    for command in (("status",), ("status", "--json"), ("doctor",)):
        assert f"cannot lead: {reason}" in says(*command), command
    with Terminal("watch", "--pool", str(pair.path)) as terminal:
        until(lambda: terminal.shows("cannot lead: "), what=terminal.written)
    assert says("status").startswith("1: ")
    assert says("doctor").startswith("1: ")

    lock.rmdir()
    pair.leader(after=1)
    until(lambda: all(worker.document()["problem"] is None for worker in pair.alive), what=lambda: says("status"))
    assert reason not in says("status") + says("doctor")
    assert not list((pair.path / "workers").glob("*.problem"))
