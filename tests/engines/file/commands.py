"""Commands of a worker, before it starts or while it runs. ``worker`` is a ``worker.Worker``."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import fcntl
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import threading
import traceback
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from election.core.term import Standing
from election.engines.file import backend
from tests.engines.file.faults import Faults, Steps

# --- looking ---------------------------------------------------------------------------------------------------------


async def look(worker: Any) -> dict[str, Any]:
    """State of the seat in this worker."""
    seen = await worker.seat.observe()
    held = worker.seat.held()
    return {
        "led": seen.led,
        "leader": seen.record.holder.pid if seen.record else None,
        "term": seen.record.term if seen.record else None,
        "reason": seen.record.takeover.reason if seen.record else None,
        "takeover_ms": seen.record.takeover.takeover_ms if seen.record else None,
        "problem": seen.problem,
        "age": seen.heartbeat_age_s,
        "trouble": worker.elector.trouble,
        "role": worker.elector.role,
        "held": held.number if held else None,
        "workers": [entry.process.pid for entry in await worker.seat.workers()],
    }


def armed_for(worker: Any) -> Any:
    """Term whose end this worker waits for, and its sources; None before it has observed a leader."""
    watch = worker.seat.backend.watcher
    return watch.armed_for and [*watch.armed_for, *watch.sources]


def descriptor(worker: Any) -> int:
    """The descriptor of the lock."""
    return worker.seat.backend.lock.descriptor


# --- acting ----------------------------------------------------------------------------------------------------------


async def resign(worker: Any) -> bool:
    return await worker.elector.resign()


def hold_the_drain(worker: Any) -> None:
    """From now on, the work of a term does not end before ``end_the_drain``."""
    worker.may_end.clear()


def end_the_drain(worker: Any) -> None:
    worker.may_end.set()


def fail(worker: Any, name: str, code: int, path: str = "") -> None:
    """From now on, let a system call on the pool's files fail; ``path``: only on those with this in their name."""
    worker.faults = Faults(worker.seat.backend.directory.path + path, {name: code})
    worker.faults.begin()


def fail_no_more(worker: Any) -> None:
    worker.faults.end()


def without(worker: Any, name: str) -> None:
    """Remove ``os.<name>``, as on a system without it."""
    delattr(os, name)


# --- forks and children ----------------------------------------------------------------------------------------------


def fork_child(worker: Any, child: str = "") -> dict[str, Any]:
    """``os.fork`` as in a job; the child runs ``child``, writes the result, and stays alive."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)  # the child outlives any error
        os.close(reader)
        try:
            said = _CHILD[child](worker) if child else None
        except BaseException:
            said = traceback.format_exc()
        os.write(writer, json.dumps(said).encode())
        os.close(writer)
        while True:
            signal.pause()
    os.close(writer)
    said = b"".join(iter(lambda: os.read(reader, 65536), b""))
    os.close(reader)
    return {"pid": pid, "said": json.loads(said)}


def _let_go_of_all(worker: Any) -> dict[str, Any]:
    """Run every clean-up of the parent that a child could run."""
    held = worker.seat.held()
    descriptor = worker.seat.backend.lock.descriptor
    try:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        unlocked = "the child still had the descriptor"
    except OSError as error:
        unlocked = errno.errorcode[error.errno or 0]
    taken = os.open("/dev/null", os.O_RDONLY)  # gets the number of a descriptor that the fork hooks closed
    worker.seat.backend.lock._lock.release(force=True)
    asyncio.new_event_loop().run_until_complete(worker.seat.release(Standing.RESIGNED))
    asyncio.new_event_loop().run_until_complete(worker.seat.close())
    os.fstat(taken)
    return {"held": held, "is_leader": worker.seat.held() is not None, "unlocked": unlocked}


def _campaign(worker: Any) -> dict[str, Any]:
    """Try to take the seat over from the parent, with the parent's own objects."""
    term = asyncio.new_event_loop().run_until_complete(worker.seat.campaign())
    return {"term": term and term.number, "is_leader": worker.seat.held() is not None}


_CHILD = {"let_go_of_all": _let_go_of_all, "campaign": _campaign}


def process_pool(worker: Any) -> list[int]:
    """Open a ``ProcessPoolExecutor`` as a job does on 3.11; return the pids of its processes."""
    executor = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork"))
    list(executor.map(abs, range(20)))
    worker.executor = executor
    return list(executor._processes)


def spawn_sleep(worker: Any) -> int:
    """Start ``sleep`` with every descriptor inherited."""
    return subprocess.Popen(["sleep", "60"], close_fds=False).pid


def raw_fork(worker: Any) -> int:
    """Fork without Python, like a C library: the child runs no hooks, and keeps every descriptor."""
    pid = ctypes.PyDLL(None).fork()
    if pid == 0:
        ctypes.PyDLL(None).alarm(60)
        while True:
            ctypes.PyDLL(None).pause()
    return int(pid)


# --- the lock and its descriptor -------------------------------------------------------------------------------------


def undo_the_flock(worker: Any, then_taken: bool = False) -> None:
    """Unlock like a child that kept the descriptor can; ``then_taken``: another worker is quicker than the next
    heartbeat.
    """
    fcntl.flock(worker.seat.backend.lock.descriptor, fcntl.LOCK_UN)
    if then_taken:
        worker.thief = os.open(worker.seat.backend.directory.lock, os.O_RDWR)
        fcntl.flock(worker.thief, fcntl.LOCK_EX | fcntl.LOCK_NB)


def give_the_flock_back(worker: Any) -> None:
    os.close(worker.thief)


def open_and_close_the_lock_file(worker: Any) -> None:
    with open(worker.seat.backend.directory.lock, "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def close_the_descriptor(worker: Any, reuse: bool) -> dict[str, Any]:
    """Close the lock's descriptor without the seat's knowledge; ``reuse``: another file gets its number at once."""
    before = worker.seat.held()
    os.close(worker.seat.backend.lock.descriptor)
    if reuse:
        worker.reused = os.open("/dev/null", os.O_RDONLY)
        assert worker.reused == worker.seat.backend.lock.descriptor
    return {"before": before and before.number, "after": worker.seat.held()}


def still_open(worker: Any) -> bool:
    return os.path.samestat(os.fstat(worker.reused), os.stat("/dev/null"))


def inheritable(worker: Any) -> list[bool]:
    return [
        os.get_inheritable(number)
        for number in (worker.seat.backend.lock.descriptor, worker.seat.backend.fifo.descriptor)
    ]


def threads(worker: Any) -> int:
    return threading.active_count()


def move_away(worker: Any) -> None:
    os.chdir("/")


def count_flocks(worker: Any) -> None:
    """Count the flock calls of this process from now on."""
    real, worker.flocks = fcntl.flock, 0

    def counting(*args: Any) -> None:
        worker.flocks += 1
        real(*args)

    fcntl.flock = counting


async def look_often(worker: Any, times: int) -> int:
    """Observe ``times`` times; return the number of flock calls meanwhile."""
    before = worker.flocks
    for _ in range(times):
        await worker.seat.observe()
        worker.seat.held()
    return worker.flocks - before


# --- in the middle of an election ------------------------------------------------------------------------------------


def before_the_record(worker: Any, do: str) -> None:
    """Once, when the flock is won and the record is about to be replaced: ``stop`` this process, or ``swap`` the
    lock file for another.
    """
    real, path = os.replace, worker.seat.backend.directory

    def replace(source: str, target: str) -> None:
        if target == path.record:
            os.replace = real
            if do == "stop":
                worker.facts.write("stopping")
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # this thread stops here
            else:
                worker.facts.write("swapped")
                real(path.lock, path.lock + ".away")
        real(source, target)

    os.replace = replace


def at_step(worker: Any, number: int, do: int) -> None:
    """Send this process the signal ``do`` before its ``number``-th system call on the pool's files."""

    def act(step: int, call: str) -> None:
        if step == number:
            worker.facts.write("step", text=call)
            signal.pthread_kill(threading.get_ident(), do)  # this thread stops here

    Steps(worker.seat.backend.directory.path, act).begin()


def become(worker: Any, uid: int) -> None:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)


def lax_umask(worker: Any) -> None:
    os.umask(0)


def hide_proc_locks(worker: Any) -> None:
    """Change device numbers, as on a filesystem where they differ from those of ``stat``."""
    backend.is_flocked = lambda wanted, ours: None


def use_up_descriptors(worker: Any) -> None:
    worker.limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, worker.limits[1]))  # open files stay open


def give_descriptors_back(worker: Any) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, worker.limits)


def refuse(worker: Any, name: str, code: int) -> None:
    """Let ``os.<name>`` fail."""

    def refusing(*args: Any) -> Any:
        raise OSError(code, os.strerror(code))

    setattr(os, name, refusing)


def before_the_work(worker: Any) -> None:
    """Die when the term has begun and its work has not."""

    def lead(*_: Any) -> Any:
        worker.facts.write("killed", pid=os.getpid())
        os.kill(os.getpid(), signal.SIGKILL)

    worker.elector._lead = lead
