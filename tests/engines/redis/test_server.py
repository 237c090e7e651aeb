"""A server whose disk is full: nothing is run unclaimed, no tick is lost, and ``/leader`` gives the remedy."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engines.redis.test_pool import check
from tests.support.pool import Pool
from tests.support.redis_server import Server
from tests.support.waiting import until


@pytest.fixture
def small_disk(tmp_path: Path, as_root: None) -> Iterator[Path]:
    """A disk of 8 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "election-small", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no small disk can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def on_small_disk(small_disk: Path) -> Iterator[Callable[[str], Server]]:
    """Factory of servers with the append-only file there. Takes ``appendfsync``."""
    made: list[Server] = []

    def make(fsync: str) -> Server:
        made.append(Server(small_disk / "server", "--appendfsync", fsync).start().grown_up())
        return made[-1]

    yield make
    for server in made:
        server.kill()


def fill(disk: Path) -> Path:
    """Fill the disk; return the file to remove in order to free space again."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:

        def fill_up() -> bool:
            free = os.statvfs(disk)
            try:
                os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size + free.f_bavail * free.f_frsize)
            except OSError as error:  # the server was faster
                assert error.errno == errno.ENOSPC
                return False
            return True

        until(fill_up, what="the disk is full")
    return ballast


def nobody_leads(pool: Pool, *words: str) -> bool:
    answer = pool.get()
    return answer is not None and answer.status_code == 503 and all(word in answer.text for word in words)


def begun(pool: Pool) -> int:
    return len(pool.facts().of("begin", "tick"))


def stands_still_and_goes_on(pool: Pool, make_room: Callable[[], object]) -> None:
    """Nothing runs while some ticks fall due; with free space, they are caught up with."""
    before = begun(pool)
    time.sleep(2.5)  # some ticks fall due
    assert begun(pool) == before, "no claim, no run"
    make_room()
    assert pool.settled()["leader"]["term"] >= 2, "P2; a number whose term could not begin is not used again"
    until(lambda: pool.settled()["problem"] is None, what="nothing is wrong any more")
    until(lambda: begun(pool) > before + 3, what="what fell due is caught up with")
    check(pool)


@pytest.mark.timeout(180)
def test_p3_p4_p8_a_disk_that_is_full_and_has_room_again(
    small_disk: Path, on_small_disk: Callable[[str], Server], served: Callable[..., Pool]
) -> None:
    """With ``everysec`` the server refuses all writes until it can write the last ones, also those of a lease."""
    server = on_small_disk("everysec")
    pool = served(pool=server.url, workers=2).start()
    until(lambda: begun(pool) > 1, what="a job runs")
    ballast = fill(small_disk)
    until(lambda: nobody_leads(pool, "No space left on device", "free some space"), what="/leader says what to do")
    assert server.ask("ZCARD", "election:{election}:runs") == begun(pool), "what ran was claimed"
    stands_still_and_goes_on(pool, ballast.unlink)


@pytest.mark.timeout(180)
def test_p3_p4_p8_a_full_disk_ends_a_server_that_may_forget_nothing(
    small_disk: Path, on_small_disk: Callable[[str], Server], served: Callable[..., Pool]
) -> None:
    """With ``always`` it ends itself before it confirms a write that failed."""
    server = on_small_disk("always")
    pool = served(pool=server.url, workers=2).start()
    until(lambda: begun(pool) > 1, what="a job runs")
    ballast = fill(small_disk)
    until(server.gone, what="the server has ended")
    until(lambda: nobody_leads(pool, "redis://"), what="/leader says that the server is away")

    def make_room() -> None:
        ballast.unlink()
        server.start()

    stands_still_and_goes_on(pool, make_room)
