"""Identity of a process (docs/pitfalls.md#10 and #18)."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from election.core import process as process_module
from election.core.process import ProcessIdentity, current_process
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc tells who a process is")

ROOT = Path(__file__).parents[2]

Start = Callable[..., tuple[subprocess.Popen[bytes], ProcessIdentity]]


def stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process that lives until its standard input ends, and prints its identity."""
    started = []

    def start(program: str = "cat") -> tuple[subprocess.Popen[bytes], ProcessIdentity]:
        process = subprocess.Popen([program], stdin=subprocess.PIPE)
        started.append(process)
        return process, replace(current_process(), pid=process.pid, start_time=int(stat(process.pid)[19]))

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_this_process_lives_and_is_its_own_neighbour() -> None:
    me = current_process()
    assert me.pid == os.getpid()
    assert me.is_alive()
    assert me.is_neighbour()
    assert current_process() == me


def test_another_process_lives_until_it_dies(start: Start) -> None:
    process, identity = start()
    assert identity.is_alive()
    process.communicate()
    assert identity.is_alive() is False


def test_a_zombie_is_dead(start: Start) -> None:
    """docs/pitfalls.md#10: ``kill(pid, 0)`` succeeds on a zombie, but its locks are free."""
    process, identity = start()
    process.kill()
    until(lambda: stat(process.pid)[0] == "Z", what="the process is a zombie")
    os.kill(process.pid, 0)
    assert identity.is_alive() is False


def test_a_pid_that_was_reused_is_somebody_else() -> None:
    """docs/pitfalls.md#10: the same pid with another start time is another process."""
    me = current_process()
    assert replace(me, start_time=me.start_time - 1).is_alive() is False


def test_nothing_survives_a_boot() -> None:
    """docs/pitfalls.md#10: a process of an earlier boot is dead, whatever its pid and namespace."""
    me = replace(current_process(), boot_id="another boot")
    assert me.is_alive() is False
    assert replace(me, pid_namespace="pid:[1]").is_alive() is False
    assert not me.is_neighbour()


def test_a_pid_of_another_container_says_nothing() -> None:
    """docs/pitfalls.md#10: unknown is neither alive nor dead, even if a process with that pid is visible here."""
    stranger = replace(current_process(), pid_namespace="pid:[1]")
    assert stranger.is_alive() is None
    assert not stranger.is_neighbour()


def test_only_who_can_be_seen_from_here_is_known_dead(start: Start) -> None:
    """P1: another boot id may mean a leader on another host or in a container, which can be alive."""
    process, here = start()
    elsewhere = replace(here, boot_id="another host's boot", host="elsewhere")
    container = replace(here, pid_namespace="pid:[1]")
    for identity in (here, elsewhere, container):
        assert not identity.is_known_dead()
    process.communicate()
    assert here.is_known_dead()
    assert not elsewhere.is_known_dead()
    assert not container.is_known_dead()


def test_pitfall_60_equal_ids_are_no_proof_that_a_process_was_of_this_host(start: Start) -> None:
    popen, seen = start()
    assert seen.is_surely_dead() is False, "it lives; and so it was seen"
    twin = replace(seen, start_time=seen.start_time + 1)
    popen.kill()
    popen.wait()
    assert seen.is_surely_dead() is True
    assert twin.is_known_dead() is True
    assert twin.is_surely_dead() is False, "a process of that name may run on a clone of this host"


def test_pitfall_60_without_a_boot_id(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Under systemd's ``ProcSubset=pid`` there is only the machine id, which does not identify a boot."""
    real = open
    gone = {"/proc/sys/kernel/random/boot_id"}

    def fake(path: object, *more: object, **options: object) -> object:
        if path in gone:
            raise FileNotFoundError(path)
        return real(path, *more, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(process_module, "open", fake, raising=False)
    of_the_machine = process_module._boot_id()
    assert of_the_machine.startswith("machine ")
    assert process_module._boot_id() == of_the_machine
    gone.add("/etc/machine-id")
    assert process_module._boot_id() == f"machine {socket.gethostname()}"
    assert replace(current_process(), boot_id=of_the_machine).is_alive() is None, "not dead for that"


def test_only_the_file_engine_and_who_looked_first_take_a_process_for_one_of_this_host() -> None:
    """P1: ``is_alive`` returns False for processes on other hosts; engines for several hosts need another check too."""
    asking = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "election").rglob("*.py")
        if "_thread.is_alive()" not in (text := path.read_text()) and ".is_alive()" in text
    }
    first_asked_is_neighbour = {"election/fencing/warden.py", "election/engines/redis/backend.py"}
    assert {path for path in asking if not path.startswith("election/engines/file/")} == first_asked_is_neighbour


def test_the_host_does_not_tell_processes_apart() -> None:
    """docs/pitfalls.md#18: the identity is that of a process; host names can be shared, and change while it runs."""
    assert replace(current_process(), host="renamed").is_alive()


def test_a_name_that_looks_like_the_end_of_the_name_misleads_nobody(start: Start, tmp_path: Path) -> None:
    """The name in /proc/<pid>/stat may hold spaces and parentheses, as in the line of a zombie."""
    program = tmp_path / "a) Z 1 (b"
    shutil.copy(shutil.which("cat") or "", program)
    _, identity = start(str(program))
    until(lambda: "a) Z 1 (b" in Path(f"/proc/{identity.pid}/stat").read_text(), what="the program has its name")
    assert identity.is_alive()
