"""Small files, whole or absent (docs/pitfalls.md#14), and the number that only grows (P2, docs/pitfalls.md#37)."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from election.core.errors import SeatError, SeatLostError
from election.core.process import current_process
from election.core.term import LeaderRecord, Reason, Takeover
from election.engines.file import leader_record
from election.engines.file.atomic_files import DurableNumber, create_file, read_file, replace_file
from election.engines.file.leader_record import LeaderRecordFile, RecordObserver
from election.testing import ManualClock
from tests.engines.file.faults import Faults
from tests.support.processes import ROOT
from tests.support.waiting import until

NOW = datetime(2026, 11, 23, 4, tzinfo=UTC)


def record(term: int) -> LeaderRecord:
    us = current_process()
    return LeaderRecord(term, us, "1:1", NOW, Takeover(term, None, us.pid, Reason.STARTED, NOW))


# --- the number ------------------------------------------------------------------------------------------------------


@pytest.fixture
def number(tmp_path: Path) -> DurableNumber:
    return DurableNumber(str(tmp_path / "leader.term"))


def test_a_number_outlives_who_wrote_it(number: DurableNumber, tmp_path: Path) -> None:
    assert number.read() == 0
    for value in (1, 2, 10**15, 10**19 + 1):
        number.write(value)
        assert number.read() == DurableNumber(str(tmp_path / "leader.term")).read() == value


def test_a_number_never_goes_backwards(number: DurableNumber) -> None:
    number.write(7)
    for value in (7, 6, 0):
        with pytest.raises(SeatError, match=f"term {value} was begun by somebody else meanwhile"):
            number.write(value)
    assert number.read() == 7


@pytest.mark.parametrize("garbage", [b"", b"\n", b"x", b"-3\n", b"1e3", b"\x00" * 21, b"word " * 20, b"\xff" * 4096])
def test_garbage_is_no_number_and_is_overcome(number: DurableNumber, tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "leader.term").write_bytes(garbage)
    assert number.read() == 0
    number.write(5)
    assert number.read() == 5


@pytest.mark.parametrize("call", ["open", "pread", "pwrite", "fdatasync", "fsync"])
def test_a_number_that_the_disk_did_not_take_is_an_error(number: DurableNumber, tmp_path: Path, call: str) -> None:
    with Faults(str(tmp_path), {call: errno.EIO}).running(), pytest.raises(OSError, match="Input/output error"):
        number.write(1)
    number.write(2)
    assert number.read() == 2


def test_a_number_that_was_written_in_part_is_an_error(number: DurableNumber, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, content, at: real(descriptor, content[:5], at))
    with pytest.raises(OSError, match="No space left"):
        number.write(12345)


def test_an_unreadable_number_is_not_taken_for_none(number: DurableNumber, tmp_path: Path) -> None:
    number.write(3)
    with Faults(str(tmp_path), {"open": errno.EMFILE}).running(), pytest.raises(OSError, match="Too many open files"):
        number.read()


# --- whole files -----------------------------------------------------------------------------------------------------


def test_what_is_replaced_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(str(path), b"old")
    for call in ("open", "write", "replace"):
        with Faults(str(tmp_path), {call: errno.ENOSPC}).running(), pytest.raises(OSError, match="No space left"):
            replace_file(str(path), b"new")
        assert path.read_bytes() == b"old"
        assert [each.name for each in tmp_path.iterdir()] == ["file"]
    replace_file(str(path), b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_created_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert create_file(str(path), b"first") is True
    assert create_file(str(path), b"second") is False
    assert path.read_bytes() == b"first"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_only_plain_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "file").write_text("content")
    os.mkfifo(tmp_path / "fifo")
    assert read_file(str(tmp_path / "file")) == b"content"
    assert read_file(str(tmp_path / "nowhere")) is None
    assert read_file(str(tmp_path / "file" / "below")) is None
    assert read_file(str(tmp_path / "directory")) is None
    assert not read_file(str(tmp_path / "fifo"))
    with pytest.raises(OSError, match="symbolic links"):
        read_file(str(tmp_path / "link"))


# --- the record ------------------------------------------------------------------------------------------------------

WRITER = """
import itertools, select, sys
from election.engines.file.leader_record import LeaderRecordFile
from tests.engines.file.test_atomic_files import record
records = LeaderRecordFile(sys.argv[1])
for term in itertools.count(1):
    records.write(record(term))
    records.beat()
    if select.select([sys.stdin], [], [], 0)[0]:
        break
"""
"""Write records until standard input is closed."""


def test_row_14_a_reader_meets_no_torn_record(tmp_path: Path) -> None:
    path = tmp_path / "leader.json"
    records = LeaderRecordFile(str(path))
    seen: list[int] = []
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], cwd=ROOT, stdin=subprocess.PIPE) as writer:
        assert writer.stdin is not None
        until(records.read)
        while len(set(seen)) < 200:
            assert writer.poll() is None
            by_stamp, _ = records.look()
            found = records.read()
            assert found is not None, "no record, or a part of one"
            assert by_stamp is not None
            assert by_stamp.term <= found.term
            seen.append(found.term)
        writer.stdin.close()
    assert writer.returncode == 0
    assert seen == sorted(seen)


def test_a_record_is_seen_though_its_file_looks_like_the_one_before_the_last(tmp_path: Path) -> None:
    """ext4 gives a replacement the inode of the file before last, and the size of a record hardly changes."""
    writer, reader = LeaderRecordFile(str(tmp_path / "leader.json")), LeaderRecordFile(str(tmp_path / "leader.json"))
    for term in range(11, 31, 2):
        writer.write(record(term))
        assert reader.look()[0] == record(term)
        writer.write(record(term + 1))
        writer.write(record(term + 2))
        assert reader.look()[0] == record(term + 2)


@pytest.mark.parametrize(("age_s", "is_seen"), [(-3600, True), (0, True), (3600, False)])
def test_a_record_is_read_again_while_another_may_have_the_same_stamp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age_s: float, is_seen: bool
) -> None:
    """Up to Linux 6.12, two replacements within one tick of the kernel have one mtime."""
    monkeypatch.setattr(leader_record, "FRESH_NS", 60_000_000_000)
    changed_at = time.time_ns() - round(age_s * 1e9)
    monkeypatch.setattr(LeaderRecordFile, "_stamp", lambda _: (1, 500, changed_at))
    writer, reader = LeaderRecordFile(str(tmp_path / "leader.json")), LeaderRecordFile(str(tmp_path / "leader.json"))
    writer.write(record(11))
    assert reader.look()[0] == record(11)
    writer.write(record(12))
    assert reader.look()[0] == record(12 if is_seen else 11)


def test_a_heartbeat_changes_the_stamp_and_not_the_record(tmp_path: Path) -> None:
    writer, reader = LeaderRecordFile(str(tmp_path / "leader.json")), LeaderRecordFile(str(tmp_path / "leader.json"))
    writer.write(record(1))
    first, stamp = reader.look()
    until(lambda: (writer.beat(), reader.look()[1] != stamp)[1])
    assert reader.look()[0] is first


def test_only_what_this_process_wrote_is_its_own(tmp_path: Path) -> None:
    path = tmp_path / "leader.json"
    ours, other = LeaderRecordFile(str(path)), LeaderRecordFile(str(path))
    ours.write(record(1))
    ours.beat()
    assert ours.is_ours()
    assert not other.is_ours()
    other.write(record(2))
    with pytest.raises(SeatLostError, match="removed or changed by somebody else"):
        ours.beat()
    ours.write_if_absent(record(1))
    assert ours.read() == record(2)
    path.unlink()
    with pytest.raises(SeatLostError):
        other.beat()
    ours.write_if_absent(record(1))
    assert ours.read() == record(1)


def test_garbage_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "leader.json"
    records = LeaderRecordFile(str(path))
    path.write_text("garbage")
    for _ in range(3):
        assert records.read() is None
        os.utime(path)
        assert records.look()[0] is None
    assert len(caplog.messages) == 1
    path.write_text("other garbage")
    assert records.read() is None
    assert len(caplog.messages) == 2


def test_a_forked_child_does_not_keep_the_number_locked(number: DurableNumber, tmp_path: Path) -> None:
    """It kept everybody from a term after its parent's death, and no detector looks for it (docs/pitfalls.md#1)."""
    assert number.try_lock()
    reader, writer = os.pipe()
    begun, begins = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.write(begins, b".")
        os.read(reader, 1)
        os._exit(0)
    assert os.read(begun, 1) == b"."
    assert number._locked is not None
    os.close(number._locked[1])  # as the death of this process would
    number._locked = None
    try:
        other = DurableNumber(str(tmp_path / "leader.term"))
        assert other.try_lock()
        other.unlock()
    finally:
        for descriptor in (writer, reader, begun, begins):
            os.close(descriptor)
        os.waitpid(child, 0)


def test_p2_an_older_record_does_not_make_the_largest_number_smaller(tmp_path: Path) -> None:
    """A copy of the directory may be put in its place while a worker runs."""
    records = LeaderRecordFile(str(tmp_path / "leader.json"))
    observer = RecordObserver(records, ManualClock())
    for term in (5, 2):
        records.write(record(term))
        observer.look()
    assert observer.last_seen == record(2)
    assert observer.largest == 5
