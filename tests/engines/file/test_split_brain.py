"""``is_rival`` as a table, ``is_flocked`` on the kernel's own list and on made-up ones."""

from __future__ import annotations

import fcntl
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from election.core.process import ProcessIdentity
from election.core.term import LeaderRecord, Reason, Standing, Takeover
from election.engines.file import lock_holders
from election.engines.file.split_brain import is_flocked, is_rival, seat_id

OURS = (65024, 11)
THEIRS = (65024, 22)
NOW = datetime(2026, 11, 23, 4, tzinfo=UTC)


def record(standing: Standing, seat: tuple[int, int]) -> LeaderRecord:
    holder = ProcessIdentity(4242, 1, "boot", "pid:[1]", "host")
    return LeaderRecord(7, holder, seat_id(seat), NOW, Takeover(7, None, 4242, Reason.STARTED, NOW), standing)


LEADING, RESIGNED, LOST = Standing.LEADING, Standing.RESIGNED, Standing.LOST


@pytest.mark.parametrize(
    ("standing", "seat", "alive", "flocked", "rival"),
    [
        # It leads on another file, is alive, and its flock is there or cannot be looked up: nobody else may lead.
        (LEADING, THEIRS, True, True, True),
        (LEADING, THEIRS, True, None, True),
        # Nobody holds a flock on its file any more, so it has lost the seat whatever its record contains.
        (LEADING, THEIRS, True, False, False),
        # It is dead; a child may hold its flock.
        (LEADING, THEIRS, False, True, False),
        (LEADING, THEIRS, False, None, False),
        (LEADING, THEIRS, False, False, False),
        # It led on our file, so our flock proves that it lost it.
        (LEADING, OURS, True, True, False),
        (LEADING, OURS, True, None, False),
        # Its record ends the term, and that is written only after its work has ended.
        (RESIGNED, THEIRS, True, True, False),
        (LOST, THEIRS, True, True, False),
        (LOST, THEIRS, True, None, False),
    ],
)
def test_is_rival(standing: Standing, seat: tuple[int, int], alive: bool, flocked: bool | None, rival: bool) -> None:
    assert is_rival(record(standing, seat), OURS, alive=alive, flocked=flocked) is rival


def test_no_record_is_no_rival() -> None:
    assert not is_rival(None, OURS, alive=True, flocked=True)


def flocked(path: Path) -> tuple[int, tuple[int, int]]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    found = os.fstat(descriptor)
    return descriptor, (found.st_dev, found.st_ino)


def test_is_flocked_by_the_kernels_own_list(tmp_path: Path) -> None:
    ours, our_id = flocked(tmp_path / "ours")
    theirs, their_id = flocked(tmp_path / "theirs")
    if is_flocked(seat_id(our_id), our_id) is None:
        pytest.skip("the kernel lists other device numbers than stat gives")
    assert is_flocked(seat_id(their_id), our_id) is True
    os.close(theirs)
    assert is_flocked(seat_id(their_id), our_id) is False
    os.close(ours)
    assert is_flocked(seat_id(their_id), our_id) is None, "without a flock of ours on it, the list proves nothing"


ROWS = f"""\
1: FLOCK  ADVISORY  WRITE {os.getpid()} fe:00:11 0 EOF
2: POSIX  ADVISORY  WRITE 4242 fe:00:33 0 EOF
3: FLOCK  ADVISORY  WRITE 4242 fe:00:22 0 EOF
3: -> FLOCK  ADVISORY  WRITE 4243 fe:00:44 0 EOF
4: OFDLCK ADVISORY  READ -1 00:19:55 0 EOF
5: LEASE  ACTIVE    READ 4244 fe:00:66 0 EOF
"""


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("65024:22", True),
        ("65024:11", True),
        ("65024:33", False),  # a POSIX lock
        ("65024:44", False),  # a waiting one
        ("65025:22", False),
        ("65024:2", False),
        ("", False),
        ("garbage", False),
        ("65024:", False),
        ("-1:-1", False),
        ("9" * 40 + ":22", False),
    ],
)
def test_is_flocked_by_a_made_up_list(tmp_path: Path, wanted: str, found: bool) -> None:
    (tmp_path / "locks").write_text(ROWS)
    assert is_flocked(wanted, OURS, str(tmp_path / "locks")) is found


def test_a_lock_that_one_reading_of_the_list_passes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel skips an entry if one before it goes while the list is read; the numbers of the others change."""
    lines = ROWS.splitlines(keepends=True)
    without_theirs, without_ours = "".join(lines[:2] + lines[3:]), "".join(lines[1:])
    readings = iter([without_theirs, without_ours] * 2)
    monkeypatch.setattr(lock_holders, "_read", lambda _: next(readings))
    assert is_flocked("65024:22", OURS) is True
    assert len(lock_holders.listed_locks()) == len(lines)


@pytest.mark.parametrize(
    "rows",
    ["", ROWS.replace("fe:00:11", "00:2f:11"), ROWS.replace(str(os.getpid()), "1")],
    ids=["empty", "on another device", "of another process"],
)
def test_is_flocked_by_a_list_that_does_not_show_ours(tmp_path: Path, rows: str) -> None:
    (tmp_path / "locks").write_text(rows)
    assert is_flocked("65024:22", OURS, str(tmp_path / "locks")) is None
    assert is_flocked("65024:22", OURS, str(tmp_path / "nowhere")) is None
