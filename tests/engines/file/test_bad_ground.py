"""Unsuitable ground: a permanent fault fails the start with its cause and a remedy; a temporary one is reported, and
the pool recovers by itself.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from election import Election, PoolPathError
from election.engines.file import PoolDirectory, probe
from tests.engines.file.pool import Pool
from tests.support.logs import logged
from tests.support.waiting import until

NOBODY = 65534


def refusal(path: Path | str, **options: Any) -> str:
    """The error of a start on ``path``; a worker's start and ``check`` raise the same."""
    with pytest.raises(PoolPathError) as caught:
        Election(path, **options).check()
    return str(caught.value)


# --- what will not mend itself ---------------------------------------------------------------------------------------


def test_the_pool_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "pool").write_text("precious")
    assert refusal(tmp_path / "pool") == (
        f"{tmp_path}/pool is a file, not a directory; a pool is a directory, so choose another path"
    )
    assert "cannot be used" in refusal(tmp_path / "pool" / "below")
    assert (tmp_path / "pool").read_text() == "precious"


def test_the_pool_is_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "pool").symlink_to("real")
    assert refusal(tmp_path / "pool") == (
        f"{tmp_path}/pool is a symbolic link, which somebody could point elsewhere;"
        f" name the directory itself: {tmp_path}/real"
    )
    (tmp_path / "dangling").symlink_to("nowhere")
    assert "is a symbolic link" in refusal(tmp_path / "dangling")


@pytest.mark.usefixtures("as_root")
def test_row_20_the_pool_belongs_to_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir(mode=0o700)
    os.chown(tmp_path / "pool", NOBODY, NOBODY)
    assert f"belongs to uid {NOBODY}, and this process runs as uid 0" in refusal(tmp_path / "pool")
    assert "chown it, or choose another directory" in refusal(tmp_path / "pool")


def test_the_pool_is_a_directory_with_other_peoples_files(tmp_path: Path) -> None:
    pool = tmp_path / "pool"
    pool.mkdir(mode=0o755)
    (pool / "precious").touch()
    assert "holds other files and others may enter it; a pool needs a directory of its own" in refusal(pool)
    assert pool.stat().st_mode & 0o777 == 0o755, "it was changed nevertheless"
    (pool / "precious").unlink()
    Election(pool).check()
    assert pool.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP], ids=errno.errorcode.get)
def test_the_filesystem_has_no_flock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def no_flock(*_: Any, **__: Any) -> bool:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("election.engines.file.directory.lock_descriptor", no_flock)
    assert "which has no flock; use a directory on a local filesystem" in refusal(tmp_path / "pool")


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "9p", "fuse.sshfs", "ceph"])
def test_row_06_filesystems_where_flock_may_exclude_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("election.engines.file.directory.filesystem_type", lambda _: kind)
    assert f"is on {kind}, where flock may exclude nobody" in refusal(tmp_path / "pool")
    Election(tmp_path / "pool", allow_network_fs=True).check()


@pytest.mark.parametrize("kind", ["ext4", "xfs", "tmpfs", "overlay", "btrfs", ""])
def test_row_06_filesystems_where_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr("election.engines.file.directory.filesystem_type", lambda _: kind)
    Election(tmp_path / "pool").check()


@pytest.mark.parametrize("kind", ["virtiofs", "vboxsf", "prl_fs", "fakeowner", "fuse.grpcfuse"])
def test_row_06_a_folder_shared_with_the_host_where_everything_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Whether flock works there depends on more than the name of the filesystem, so it is tried."""
    monkeypatch.setattr("election.engines.file.directory.filesystem_type", lambda _: kind)
    Election(tmp_path / "pool").check()
    assert not list((tmp_path / "pool").glob("probe*"))


ALWAYS = "fcntl.flock = lambda *_: None"
ALONE = "sqlite3.connect = lambda *_, **__: __import__('unittest.mock').mock.MagicMock()"


@pytest.mark.parametrize(
    ("other", "failure"),
    [
        (ALWAYS, "another process can lock a file that this one has locked"),
        (ALONE, "another process does not see what this one has written with SQLite"),
        ("sys.exit(1)", "another process fails"),
    ],
    ids=["flock", "memory", "nothing"],
)
def test_row_06_a_folder_shared_with_the_host_where_another_process_is_not_excluded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str, failure: str
) -> None:
    monkeypatch.setattr("election.engines.file.directory.filesystem_type", lambda _: "virtiofs")
    program = probe._OTHER_PROCESS.replace("\ntry:", f"\n{other}\ntry:", 1)
    monkeypatch.setattr(probe, "_OTHER_PROCESS", program)
    told = refusal(tmp_path / "pool")
    assert f"is on virtiofs, a folder shared with the host, and {failure}" in told
    assert "use a directory inside of the machine or container" in told
    Election(tmp_path / "pool", allow_network_fs=True).check()


def test_row_06_a_folder_shared_with_the_host_where_a_second_descriptor_is_not_excluded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("election.engines.file.directory.filesystem_type", lambda _: "fakeowner")
    monkeypatch.setattr(probe, "lock_descriptor", lambda *_, **__: True)
    assert "a second descriptor can lock a file that is locked" in refusal(tmp_path / "pool")


def test_a_machine_without_a_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For example in a container with a read-only root."""

    def none() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    Election(tmp_path / "pool").check()


def test_row_05_a_pool_under_tmp_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    path = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        PoolDirectory(str(path)).check()
        (line,) = logged(caplog, "temporary_directory")
        assert str(path) in line.getMessage()
    finally:
        shutil.rmtree(path)


@pytest.fixture
def everyones(as_root: None) -> Iterator[Path]:
    """A directory that any user can enter, and only root can write in."""
    path = Path(tempfile.mkdtemp(dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def test_the_pool_cannot_be_written(everyones: Path, pool: Pool) -> None:
    before = [("become", {"uid": NOBODY})]
    pool.start(before=before, path=everyones / "pool")
    (refused,) = until(lambda: pool.told(what="refused"))
    assert refused == (
        f"PoolPathError: the pool directory {everyones}/pool cannot be used by uid {NOBODY}: Permission denied"
        f" ({everyones}/pool); choose a directory that this user can write"
    )


def test_a_pool_of_an_ordinary_user(everyones: Path, pool: Pool) -> None:
    os.chown(everyones, NOBODY, NOBODY)
    options: dict[str, Any] = {"before": [("become", {"uid": NOBODY})], "path": everyones / "pool"}
    leader = pool.led(**options)
    pool.followers(2, **options, safety_poll=30.0)
    assert pool.vacancy_after_kill(leader) < 20.0, "the poll comes after 24 s at the earliest"


# --- what may pass ---------------------------------------------------------------------------------------------------

NEEDED_TO_LEAD = [
    ("open", "/leader.lock"),
    ("flock", "/leader.lock"),
    ("open", "/leader.term"),
    ("pwrite", "/leader.term"),
    ("fdatasync", "/leader.term"),
    ("open", "/leader.json"),
    ("write", "/leader.json"),
    ("replace", "/leader.json"),
]


@pytest.mark.parametrize(("call", "path"), NEEDED_TO_LEAD)
def test_nobody_leads_while_a_fault_lasts_and_the_pool_recovers_by_itself(pool: Pool, call: str, path: str) -> None:
    faulty = {"name": call, "code": errno.EIO, "path": path}
    workers = [pool.start(before=[("fail", faulty)]) for _ in range(2)]
    for worker in workers:
        trouble = until(lambda worker=worker: worker.ask("look")["trouble"])
        assert "Input/output error" in trouble
        assert str(pool.path) in trouble
    assert not pool.begun()
    workers[0].ask("fail_no_more")
    assert pool.next_leader() is workers[0]
    until(lambda: not workers[0].ask("look")["trouble"])


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[None]:
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", path], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr!r}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)


@pytest.mark.usefixtures("as_root")
def test_row_22_the_disk_is_full(pool: Pool, tmp_path: Path) -> None:
    """Nobody leads, the reason is reported, a present leader continues, and free space is enough to recover."""
    with small_disk(tmp_path / "disk"):
        filler = tmp_path / "disk" / "filler"

        def fill() -> None:
            with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
                while True:
                    file.write(b"x" * 4096)

        fill()
        path = tmp_path / "disk" / "pool"
        worker = pool.start(path=path)
        trouble = until(lambda: worker.ask("look")["trouble"])
        assert "No space left on device" in trouble
        assert worker.ask("look")["led"] is False
        assert not pool.begun()
        filler.unlink()
        assert pool.next_leader() is worker
        (begun,) = pool.begun()  # a campaign that found no room for its record has used up a number

        until(lambda: worker.ask("look")["takeover_ms"])
        fill()
        beaten = (path / "leader.json").stat().st_mtime_ns
        until(lambda: (path / "leader.json").stat().st_mtime_ns > beaten)
        assert worker.ask("look")["held"] == begun.term
        worker.kill()
        for listed in (path / "workers").iterdir():  # the next worker removes it, which makes just enough space
            listed.unlink()
        fill()
        other = pool.start(path=path)
        until(lambda: "No space left on device" in (other.ask("look")["trouble"] or ""))
        filler.unlink()
        assert pool.next_leader(after=begun.term) is other
        for each in pool.workers:
            each.kill()


@pytest.mark.parametrize("garbage", ["", "{", "null", "[]", '{"term": 7}', "\x00" * 600, "x" * 100_000])
def test_a_record_with_garbage_in_it(pool: Pool, garbage: str) -> None:
    """Ignored with a warning, and rewritten by the next term, whose number the garbage does not reset."""
    leader = pool.led()
    (follower,) = pool.followers(1)
    leader.kill()
    until(lambda: pool.begun(1))
    follower.kill()
    until(follower.gone)  # otherwise it might rewrite its record
    pool.record.write_text(garbage)
    newcomer = pool.led_again(after=2)
    seen = newcomer.ask("look")
    assert (seen["term"], seen["led"], seen["leader"]) == (3, True, newcomer.pid)
    assert len(pool.told("holds no leader record, so it is ignored")) == 1


def test_garbage_is_written_over_the_record_of_a_leader(pool: Pool) -> None:
    leader = pool.led()
    pool.followers(2)
    pool.record.write_text("garbage")
    pool.next_leader(after=1)
    assert pool.term() == 2
    assert pool.told("the leader record was removed or changed by somebody else")
    until(lambda: leader.ask("look")["led"])


def test_an_unreadable_record_is_no_reason_to_fail(pool: Pool) -> None:
    leader = pool.led()
    (follower,) = pool.followers(1, safety_poll=30.0)
    follower.ask("fail", name="open", code=errno.EIO, path="/leader.json")
    os.utime(pool.record)  # so that it is read again; a rewritten file would be torn for a moment, and end the term
    until(lambda: follower.ask("look")["problem"] == "the leader record cannot be read: Input/output error")
    assert follower.ask("look")["led"] is False
    follower.ask("fail_no_more")
    until(lambda: follower.ask("look")["led"])
    assert pool.vacancy_after_kill(leader) < 20.0, "the poll comes after 24 s at the earliest"
