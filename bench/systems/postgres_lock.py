"""PostgreSQL: ``pg_try_advisory_lock`` on a permanent connection, tried each second."""

from __future__ import annotations

import asyncio
import os

import psycopg

from . import scheduler
from .serving import campaigning


async def campaign() -> None:
    connection = await psycopg.AsyncConnection.connect(os.environ["BENCH_POSTGRES"], autocommit=True)
    while True:
        found = await (await connection.execute("SELECT pg_try_advisory_lock(4711)")).fetchone()
        if found and found[0]:
            break
        await asyncio.sleep(1)
    scheduler.start()
    await asyncio.Event().wait()  # the connection lives as long as the worker


app = campaigning(campaign)
