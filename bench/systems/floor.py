"""The floor: processes with as much memory as a worker that do nothing but wait for a pidfd and then a flock.

``python -m bench.systems.floor``: a parent that starts them, and replaces those that die.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import select
import sys
import time

import fastapi  # noqa: F401  for its size
import uvicorn  # noqa: F401

import election  # noqa: F401
from bench.facts import tell


def work(path: str) -> None:
    lock = os.open(path, os.O_RDWR | os.O_CREAT)
    tell("ready")
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            _wait_for(int(os.pread(lock, 20, 0) or b"0"))
    os.pwrite(lock, b"%020d" % os.getpid(), 0)
    tell("leads")
    time.sleep(3600)


def _wait_for(pid: int) -> None:
    try:
        leader = os.pidfd_open(pid)
    except OSError:  # not written yet, or dead
        time.sleep(0.001)
        return
    select.select([leader], [], [])
    os.close(leader)


def main() -> None:
    workers = int(os.environ["BENCH_WORKERS"])
    spawn = multiprocessing.get_context("spawn")
    running: list[multiprocessing.process.BaseProcess] = []
    while True:
        running = [process for process in running if process.is_alive()]
        for _ in range(workers - len(running)):
            process = spawn.Process(target=work, args=(os.environ["BENCH_STATE"],), daemon=True)
            process.start()
            running.append(process)
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
