"""The application of these tests: each term's first run of ``deed`` does something that ends a worker, or tries to."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
from concurrent.futures import ProcessPoolExecutor

from fastapi import FastAPI

from election import Election, current_run
from tests.support.facts import write_fact

election = Election(os.environ["ELECTION_POOL"], fence_after=float(os.environ.get("ELECTION_FENCE_AFTER", "0")) or None)

DEEDS = os.environ.get("DEEDS", "").split(",")
"""What is done in the first, second … term; several in one, tick after tick, as ``one+other``; what is missing is
nothing."""

children: list[ProcessPoolExecutor] = []


@election.scheduled_job("cron", second="*", id="tick")
async def tick() -> None:
    run = current_run()
    write_fact("begin", job="tick", term=run.term, due=run.due.isoformat())


@election.scheduled_job("cron", second="*", id="deed")
async def deed() -> None:
    term = current_run().term
    names = DEEDS[term - 1].split("+") if term <= len(DEEDS) else []
    for name in [name for name in names if name and name not in done][:1]:
        done.add(name)
        write_fact("deed", name=name, term=term)
        globals()[name]()


done: set[str] = set()


def exits() -> None:
    os._exit(1)  # not 3: by that Uvicorn knows a worker that failed to start, and then it stops all of them


def closes_all_descriptors() -> None:
    os.closerange(3, 4096)


def uses_up_its_processor_time() -> None:
    """The kernel ends the process, as a cgroup's memory ceiling would: with SIGKILL, without a word."""
    used = int(sum(os.times()[:2])) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (used, used))
    while True:
        pass


def runs_out_of_memory() -> None:
    """A ceiling for this process alone; what is asked for above it is refused."""
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + (64 << 20), before[1]))
    try:
        bytearray(1 << 30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def uses_up_its_descriptors() -> None:
    """None is left for three seconds; what is open stays open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    asyncio.get_running_loop().call_later(3, resource.setrlimit, resource.RLIMIT_NOFILE, before)


def crashes_in_c() -> None:
    ctypes.string_at(0)


def leaves_children_and_is_killed() -> None:
    """Children that a dead leader forked must not keep its lock (docs/pitfalls.md#1)."""
    children.append(ProcessPoolExecutor(2))
    write_fact("children", pids=[children[0].submit(os.getpid).result(30) for _ in range(2)])
    os.kill(os.getpid(), 9)


def raises() -> None:
    raise RuntimeError("as it happens")


app = FastAPI(lifespan=election.lifespan)
app.include_router(election.router)
