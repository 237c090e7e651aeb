"""Permissions that change, and disks that turn read-only, under a pool of an ordinary user: modes do not bind root.

With the engine's own workers. No permission is changed back by force: the fault is reported, and tried again.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines.conftest import workers
from tests.engines.file.conftest import pool
from tests.engines.file.pool import Pool
from tests.engines.file.test_bad_ground import NOBODY, everyones, small_disk
from tests.support.waiting import until

__all__ = ["everyones", "pool", "workers"]

RECOVERED = 20.0
"""Seconds from the end of a fault to a leader: the longest back-off, a poll, and slack for a busy machine."""


@pytest.fixture
def options(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Run workers as an ordinary user. Requested before ``pool``, so that its workers end first."""
    if os.geteuid() != 0:
        yield {"path": tmp_path / "pool"}
        return
    directory = request.getfixturevalue("everyones")
    os.chown(directory, NOBODY, NOBODY)
    yield {"before": [("become", {"uid": NOBODY})], "path": directory / "pool"}


def said(worker: Any) -> str:
    found = worker.ask("look")
    return f"{found['trouble']} {found['problem']}"


def looks(pool: Pool) -> list[dict[str, Any]]:
    return [worker.ask("look") for worker in pool.workers if not worker.gone()]


def one_leads(pool: Pool) -> bool:
    found = looks(pool)
    return all(look["led"] and not look["trouble"] for look in found) and sum(bool(look["held"]) for look in found) == 1


def test_while_somebody_leads(options: dict[str, Any], pool: Pool) -> None:
    """P1, P2: only a directory without permissions ends the term, within a heartbeat and in order; all is reported."""
    leader = pool.led(**options)
    followers = pool.followers(2, **options)
    for name in ("leader.lock", "leader.json", "workers"):
        path = options["path"] / name
        mode = path.stat().st_mode & 0o777
        path.chmod(0)
        until(lambda: all("Permission denied" in said(follower) for follower in followers), what=f"{name} is told")
        assert leader.ask("look")["held"] == 1, name
        path.chmod(mode)
        until(lambda: one_leads(pool), RECOVERED, what=f"{name} is mended")
    assert pool.term() == 1

    options["path"].chmod(0)
    until(lambda: pool.told(what="end"), what="the term is lost")
    until(lambda: all("Permission denied" in said(worker) for worker in pool.workers))
    assert pool.term() == 1
    options["path"].chmod(0o700)
    until(lambda: one_leads(pool), RECOVERED, what=lambda: looks(pool))
    assert pool.term() == 2


@pytest.mark.parametrize("name", ["leader.lock", "leader.json", "leader.term", ""])
def test_when_the_leader_dies_meanwhile(options: dict[str, Any], pool: Pool, name: str) -> None:
    """Nobody leads without the lock, nor without the last leader and term (P1, P2)."""
    leader = pool.led(**options)
    followers = pool.followers(2, **options)
    path = options["path"] / name
    mode = path.stat().st_mode & 0o777
    path.chmod(0)
    leader.kill()
    until(lambda: all("Permission denied" in said(follower) for follower in followers))
    assert not pool.begun(1)
    path.chmod(mode)
    until(lambda: one_leads(pool), RECOVERED, what=lambda: looks(pool))
    assert pool.term() == 2


@pytest.mark.usefixtures("as_root")
def test_a_disk_that_is_read_only_for_a_while(pool: Pool, tmp_path: Path) -> None:
    """EROFS, from a real disk, is no misconfiguration: the worker stays, reports the reason, and leads when it can."""
    disk = tmp_path / "disk"

    def remount(how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", disk], check=True)

    with small_disk(disk):
        (disk / "pool" / "workers").mkdir(parents=True)
        (disk / "pool").chmod(0o700)
        remount("ro")
        workers = [pool.start(path=disk / "pool") for _ in range(2)]
        until(lambda: all("Read-only file system" in said(worker) for worker in workers))
        assert not pool.begun()
        remount("rw")
        until(lambda: one_leads(pool), RECOVERED, what=lambda: looks(pool))
        for worker in workers:
            worker.kill()
            until(worker.gone)


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
def test_heartbeats_that_cannot_be_written(pool: Pool, code: int) -> None:
    """The flock holds, so the term continues; the fault is reported until it is over."""
    leader = pool.led()
    pool.followers(1)
    leader.ask("fail", name="utime", code=code, path="/leader.json")
    until(lambda: os.strerror(code) in said(leader))
    assert leader.ask("look")["held"] == 1
    leader.ask("fail_no_more")
    until(lambda: one_leads(pool))
    assert pool.term() == 1
