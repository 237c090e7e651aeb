"""A Redis lock: ``SET NX PX`` for ten seconds, renewed each three, tried each second."""

from __future__ import annotations

import asyncio
import os
import uuid

from redis.asyncio import Redis

from . import scheduler
from .serving import campaigning

LEASE_MS = 10_000
RENEW = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) else return 0 end"


async def campaign() -> None:
    redis, token = Redis.from_url(os.environ["BENCH_REDIS"]), uuid.uuid4().hex
    while True:
        while not await redis.set("scheduler", token, nx=True, px=LEASE_MS):  # noqa: ASYNC110
            await asyncio.sleep(1)
        running = scheduler.start()
        while await redis.eval(RENEW, 1, "scheduler", token, LEASE_MS):  # noqa: ASYNC110
            await asyncio.sleep(3)
        running.shutdown(wait=False)


app = campaigning(campaign)
