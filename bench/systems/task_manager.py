"""fastapi-task-manager with Redis, as its README shows it, and its defaults."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi_task_manager import Config, TaskGroup, TaskManager
from fastapi_task_manager.leader_election import LeaderElector

from bench.facts import tell

from .job import tick

_acquire = LeaderElector.try_acquire_leadership


async def acquire(self: LeaderElector) -> bool:
    """The original, with a fact."""
    won = await _acquire(self)
    if won:
        tell("leads")
    return won


LeaderElector.try_acquire_leadership = acquire
app = FastAPI()
redis = urlsplit(os.environ["BENCH_REDIS"])
manager = TaskManager(
    config=Config(redis_host=redis.hostname or "", redis_port=redis.port or 6379, redis_key_prefix="bench"), app=app
)
group = TaskGroup(name="bench", tags=["bench"])
manager.add_task_group(group)


@group.add_task("* * * * * *", name="tick", description="each second")
async def each_second() -> None:
    await tick()


tell("ready")
