"""A copy of a pool's directory, made while the pool runs: nobody there may end the original's leader."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.engines.file.pool import Pool
from tests.support.waiting import until


def test_pitfall_49_a_copy_neither_leads_nor_ends_the_leader_of_the_original(pool: Pool, tmp_path: Path) -> None:
    leader = pool.led()
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", pool.path, copy], check=True)
    stranger = pool.start(path=copy)
    until(lambda: f"pid {leader.pid} leads term 1" in (stranger.ask("look")["problem"] or ""), what="it says why")
    assert stranger.ask("look")["led"] is False, "so no fence looks at it"
    (follower,) = pool.followers(1)
    assert follower.ask("look")["led"] is True, "the original goes on"
    assert [fact.pid for fact in pool.begun()] == [leader.pid]
