"""The server's disk is full: it refuses to write, so nobody leads; with room again, it goes on by itself (P1, P8)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from election.core.term import Standing
from tests.engines.conformance.pool import Hand, Pool
from tests.support.redis_server import Server
from tests.support.waiting import until


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 4 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "election-small", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk, and not everywhere")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def loses(leader: Hand) -> bool:
    try:
        leader.beat()
    except AssertionError as error:
        return "SeatLostError" in str(error)
    return False


def test_the_disk_is_full_and_has_room_again(small_disk: Path, new_pool: Callable[[str], Pool]) -> None:
    server = Server(small_disk)
    try:
        server.start().grown_up()
        pool = new_pool(server.url)
        leader, follower = pool.worker(), pool.worker()
        leader.wins()
        leader.beats()
        assert follower.campaign() is None
        with (small_disk / "ballast").open("wb") as ballast:
            free = os.statvfs(small_disk)
            os.posix_fallocate(ballast.fileno(), 0, free.f_bavail * free.f_frsize)
        until(lambda: loses(leader), what="the leader ends its term")
        until(lambda: "free some space" in (follower.observe().problem or ""), what="the follower says why")
        until(lambda: not follower.observe().led, what="nobody is believed to lead")
        (small_disk / "ballast").unlink()
        until(lambda: server.info()["aof_last_write_status"] == "ok", what="the server writes again")
        until(lambda: follower.observe().problem is None, what="the follower follows again")
        leader.release(Standing.LOST)
        assert follower.wins().number == 2
    finally:
        server.kill()
