"""A job that harms its worker: ``$MISBEHAVIOUR`` lists a function of this module for the first, second … term.

Several in one term, tick after tick, are written as ``one+other``.
"""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import os
import resource
import signal
from concurrent.futures import ProcessPoolExecutor

from election import current_run
from tests.support.facts import write_fact

done: set[str] = set()
children: list[ProcessPoolExecutor] = []


async def misbehave() -> None:
    """Call the next function of this term's entry; do nothing if there is none."""
    term = current_run().term
    entries = os.environ["MISBEHAVIOUR"].split(",")
    names = entries[term - 1].split("+") if term <= len(entries) else []
    for name in [name for name in names if name not in done][:1]:
        done.add(name)
        write_fact("misbehaviour", name=name, term=term)
        globals()[name]()


def exits() -> None:
    os._exit(1)  # not 3: Uvicorn treats that as a worker that failed to start, and stops all of them


def closes_all_descriptors() -> None:
    os.closerange(3, 4096)


def uses_up_its_processor_time() -> None:
    """Kill the process with SIGKILL, like the kernel at a cgroup's memory limit."""
    used = int(sum(os.times()[:2])) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (used, used))
    while True:
        pass


def runs_out_of_memory() -> None:
    """Limit the memory of this process; larger allocations fail."""
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + (64 << 20), before[1]))
    try:
        bytearray(1 << 30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def uses_up_its_descriptors() -> None:
    """Leave no file descriptor free for three seconds; open ones stay open.

    In steps, since ticks are to fail meanwhile: a machine that stands still lengthens the step that it meets.
    """
    before, loop = resource.getrlimit(resource.RLIMIT_NOFILE), asyncio.get_running_loop()
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))

    def wait(steps: int) -> None:
        if steps:
            loop.call_later(0.5, wait, steps - 1)
        else:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)

    wait(6)


def crashes_in_c() -> None:
    ctypes.string_at(0)


def leaves_children_and_is_killed() -> None:
    """Leave child processes; those of a dead leader must not keep its lock (docs/pitfalls.md#1)."""
    children.append(ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")))
    for future in [children[0].submit(os.getpid) for _ in range(2)]:
        future.result(30)
    write_fact("children", pids=[child.pid for child in multiprocessing.active_children()])
    os.kill(os.getpid(), signal.SIGKILL)


def raises() -> None:
    raise RuntimeError("as it happens")
