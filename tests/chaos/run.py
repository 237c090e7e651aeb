"""One chaos run: start a pool, inject the plan's faults, let it recover, stop it, and collect the history."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import psutil

from tests.support.pool import Pool
from tests.support.waiting import until

from .facts import Fact, append, now_ns
from .faults import Injector
from .grounds import Ground, open_ground
from .history import History, Injected, read_ledger
from .kinds import JOBS, SETTINGS
from .plan import Fault
from .poller import Poller, Sample
from .standstills import Watch

RECOVERED = 60.0
"""Seconds after the last fault within which all workers take part again."""

GONE = 8.0
"""Seconds for a worker's forked child to end by itself, after the pool has been stopped."""

Tell = Callable[[str], object]


def run(
    directory: Path, plan: Sequence[Fault], *, engine: str, workers: int, seconds: float, tell: Tell = print
) -> History:
    """Run a pool of so many workers on that engine under the faults of ``plan``, for so many seconds.

    directory: for the pool, the facts, the samples and the log; remains of an earlier run are removed. tell: called
    with a line for each fault. No process is left behind in any case.
    """
    _clear(directory)
    with closing(open_ground(engine, directory)) as ground:
        return _run(directory, plan, engine=engine, ground=ground, workers=workers, seconds=seconds, tell=tell)


def _run(
    directory: Path, plan: Sequence[Fault], *, engine: str, ground: Ground, workers: int, seconds: float, tell: Tell
) -> History:
    environment = {
        "ELECTION_TEST_APPLICATION": "tests.chaos.app",
        "ELECTION_TEST_ACCESS_LOG": "no",
        "ELECTION_FENCE_AFTER": str(SETTINGS[engine].fence_after),
        "ORDERS": str(directory / "orders"),
        "CLOCK": str(directory / "clock"),
        **ground.environment,
    }
    pool = Pool(directory, workers=workers, pool=ground.pool, environment=environment, start_method="spawn")
    (directory / "orders").mkdir(parents=True)
    injector = Injector(pool, engine, ground, directory, environment)
    with _no_process_left(injector) as left, Watch() as watch:
        pool.start()
        _ticking(pool)
        since, since_ns = datetime.now(UTC), now_ns()
        trouble: list[str] = []
        with Poller(pool.port, directory / "samples"):
            faults = _hurt(injector, plan, seconds, directory, tell)
            tell("the faults are over: waiting until all workers are there again")
            with _noted(trouble):
                until(lambda: injector.undo_what_is_due() is None, what="whatever lasts is over")
                for second in injector.pools[1:]:
                    second.stop()  # reported already; a stopping pool may still lead
                pool.settled()
            end, end_ns = datetime.now(UTC), now_ns()
            with _noted(trouble):
                _ticking(pool)
        with _noted(trouble):
            code = pool.stop()
            assert code == 0, f"run.py ended with exit code {code}"
        left.extend(_left_by(injector.pools))
    facts = Fact.read(pool.facts_path)
    logs = [other.log.read_text(errors="replace") for other in injector.pools]
    return History(
        facts=facts,
        samples=Sample.read(directory / "samples"),
        faults=[fault.as_obeyed(facts) for fault in injector.as_undone(faults)],
        since=since,
        until=end,
        since_ns=since_ns,
        until_ns=end_ns,
        trouble=trouble,
        unnoticed=injector.unnoticed,
        left=left,
        tracebacks=sum(len(re.findall(r"^Traceback", text, re.MULTILINE)) for text in logs),
        engine=engine,
        standstills=watch.found,
        **asyncio.run(read_ledger(ground.ledger)),
    )


def _clear(directory: Path) -> None:
    """Remove the remains of an earlier run, and no other files."""
    folders = ("pool", "server", "orders", "second-*", "copy-*")
    for pattern in (*folders, "image", "clock*", "facts", "samples", "faults", "log", "report.json", "picture.*"):
        for found in directory.glob(pattern):
            if found.is_dir():
                shutil.rmtree(found)
            else:
                found.unlink()


def _hurt(injector: Injector, plan: Sequence[Fault], seconds: float, directory: Path, tell: Tell) -> list[Injected]:
    """One fault after the other at its planned distance from the one before, until the time is over.

    What a fault takes longer than planned is added to the time: a busy machine is to meet as many faults.
    """
    began, behind = time.monotonic(), 0.0
    faults: list[Injected] = []
    for fault in plan:
        _wait_until(began + fault.at + behind, injector)
        behind = max(behind, time.monotonic() - began - fault.at)
        if time.monotonic() - began - behind > seconds:
            tell(f"the time is over; {len(plan) - len(faults)} of {len(plan)} faults were not done")
            break
        done = injector.inject(fault)
        faults.append(done)
        append(directory / "faults", asdict(done))
        tell(_line(done, fault, time.monotonic() - began))
    _wait_until(began + seconds + behind, injector)
    return faults


def _wait_until(moment: float, injector: Injector) -> None:
    while (left := moment - time.monotonic()) > 0:
        due = injector.undo_what_is_due()
        time.sleep(min(left, 0.05 if due is None else min(due, 0.05)))
    injector.undo_what_is_due()


def _line(done: Injected, fault: Fault, now: float) -> str:
    whom = f"pid {done.pid}" if done.pid else "the pool"
    lasting = f" for {fault.seconds:g} s" if fault.seconds else ""
    return f"{now:7.2f} s  {done.kind}{lasting}: {done.missed or f'{whom}, in term {done.term}'}"


def _ticking(pool: Pool) -> None:
    """Return when every job has begun a tick that fell due after now."""
    now = datetime.now(UTC)

    def begun() -> bool:
        with pool.facts_path.open("rb") as file:
            file.seek(max(0, os.path.getsize(pool.facts_path) - 50_000))
            lines = file.read().split(b"\n")[1:-1]
        begins = [line for line in map(json.loads, lines) if line["event"] == "begin"]
        return {line["job"] for line in begins if datetime.fromisoformat(line["due"]) > now} == JOBS.keys()

    until(begun, what="every job runs")


@contextmanager
def _noted(trouble: list[str]) -> Iterator[None]:
    """Stop the pool; one that does not recover, or does not stop, is judged all the same."""
    try:
        yield
    except (AssertionError, subprocess.TimeoutExpired) as error:
        trouble.append(str(error))


# --- no process is left behind -----------------------------------------------------------------------------------


@contextmanager
def _no_process_left(injector: Injector) -> Iterator[list[str]]:
    """End all processes started in the scope, and theirs, by their pids, however the scope ends."""
    left: list[str] = []
    try:
        yield left
    finally:
        try:
            injector.close()
        finally:
            for pool in injector.pools:
                if pool.parent is not None:
                    pool.reap()
            for process in _of_sessions(injector.pools):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()


def _left_by(pools: Sequence[Pool]) -> list[str]:
    """Remaining processes of stopped pools, after a moment for those that end by themselves."""
    with contextlib.suppress(AssertionError):
        until(lambda: not _of_sessions(pools), timeout=GONE)
    return [str(process) for process in _of_sessions(pools)]


def _of_sessions(pools: Sequence[Pool]) -> list[psutil.Process]:
    """Every process of the pools' sessions: an orphan loses its parent, but not its session."""
    sessions = {pool.parent.pid for pool in pools if pool.parent is not None}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
