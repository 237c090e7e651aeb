"""The FIFO alone: silent while a process holds it, and before; readable when the last holder hangs up."""

from __future__ import annotations

import errno
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from election.engines.file.vacancy import AliveFifo
from tests.engines.file.faults import Faults
from tests.support.logs import logged


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[AliveFifo]:
    fifo = AliveFifo(str(tmp_path / "leader.alive"))
    yield fifo
    fifo.let_go()


@pytest.fixture
def listen(fifo: AliveFifo) -> Iterator[list[int]]:
    """Listeners, closed at the end."""
    descriptors: list[int] = []
    yield descriptors
    for descriptor in descriptors:
        os.close(descriptor)


def listener(fifo: AliveFifo, listen: list[int]) -> int:
    descriptor = fifo.listen()
    assert descriptor is not None
    listen.append(descriptor)
    return descriptor


def hung_up(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def test_a_hang_up_is_heard_by_all_who_listened(fifo: AliveFifo, listen: list[int]) -> None:
    assert fifo.listen() is None, "there is none yet"
    fifo.hold()
    ears = [listener(fifo, listen) for _ in range(3)]
    assert [hung_up(ear) for ear in ears] == [False] * 3
    fifo.let_go()
    assert [hung_up(ear) for ear in ears] == [True] * 3
    fifo.let_go()  # a second call does no harm


def test_who_comes_too_late_hears_the_next_one(fifo: AliveFifo, listen: list[int]) -> None:
    fifo.hold()
    fifo.let_go()
    ear = listener(fifo, listen)
    assert not hung_up(ear), "a hang-up from before is heard again and again"
    fifo.hold()
    assert not hung_up(ear)
    fifo.let_go()
    assert hung_up(ear)


def test_it_is_held_anew_without_a_hang_up_in_between_for_those_who_come_late(
    fifo: AliveFifo, listen: list[int]
) -> None:
    fifo.hold()
    fifo.hold()
    assert not hung_up(listener(fifo, listen))


@pytest.mark.parametrize("alone", [True, False])
def test_row_01_a_forked_child_does_not_hold_it(fifo: AliveFifo, listen: list[int], alone: bool) -> None:
    fifo.hold()
    ear = listener(fifo, listen)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(60)
            taken = os.open("/dev/null", os.O_RDONLY)  # gets the number that the hook has closed
            if not alone:
                fifo.let_go()  # as the parent's clean-up would
            os.fstat(taken)
            os.write(writer, b"well")
            signal.pause()
        finally:
            os._exit(1)
    os.close(writer)
    try:
        assert os.read(reader, 4) == b"well"
        assert not hung_up(ear)
        fifo.let_go()
        assert hung_up(ear)
    finally:
        os.close(reader)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("call", ["mkfifo", "open", "lstat"])
def test_without_one_there_is_a_warning_and_no_error(
    fifo: AliveFifo, tmp_path: Path, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    with Faults(str(tmp_path), {call: errno.EPERM}).running():
        fifo.hold()
        assert fifo.listen() is None
    assert logged(caplog, "fifo_unavailable")


def test_other_kinds_of_files_are_not_listened_to(fifo: AliveFifo, tmp_path: Path) -> None:
    (tmp_path / "leader.alive").write_text("plain")
    descriptors = len(os.listdir("/proc/self/fd"))
    assert fifo.listen() is None
    assert len(os.listdir("/proc/self/fd")) == descriptors
