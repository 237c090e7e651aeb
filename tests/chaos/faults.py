"""Injects faults into a pool: by signals, by orders to its workers, and by actions on its server or directory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import psutil

from tests.support.pool import Pool
from tests.support.waiting import until

from .clocks import PoolClock, step_of
from .copies import CopiedPool
from .facts import now_ns
from .grounds import Ground, NotPossibleError, Seen, UnnoticedError
from .history import SECOND, Injected
from .kinds import Hits
from .orders import NotObeyedError, give
from .plan import Fault
from .poison import plant

TIMEOUT_S = {Hits.LEADER: 20.0, Hits.POOL: 20.0, Hits.FOLLOWER: 5.0}
"""Seconds to wait for a worker that a fault can hit, or for a leader; without one the fault is missed."""

FOR_GOOD = 3600.0

SECOND_WORKERS = 2


class Injector:
    """Injects one fault after the other; a lasting one continues meanwhile, and is ended by ``undo_what_is_due``.

    engine: engine of the pool. directory: for orders, and for the log of a second pool.
    """

    def __init__(self, pool: Pool, engine: str, ground: Ground, directory: Path, environment: dict[str, str]) -> None:
        self._pool = pool
        self._engine = engine
        self._ground = ground
        self._directory = directory
        self._orders = Path(environment["ORDERS"])
        self._environment = environment
        self._clock = PoolClock(Path(environment["CLOCK"]))
        self._number = 0
        self._undo: list[tuple[float, Callable[[], object], int]] = []
        self._undone: dict[int, int] = {}
        self._stopped = Counter[int]()
        """By pid, how many faults keep a worker stopped."""
        self._leaving: set[int] = set()
        self._killed: set[int] = set()
        self._burning: list[subprocess.Popen[bytes]] = []
        self.pools = [pool]
        self.unnoticed: list[str] = []

    # --- what the run calls ---------------------------------------------------------------------------------------

    def inject(self, fault: Fault) -> Injected:
        """Inject it now, or as soon as there is a worker that it can hit."""
        self._number += 1
        nothing = Injected(fault.kind, now_ns(), now_ns(), engine=self._engine)
        hits = nothing.of.hits

        def candidates() -> tuple[Seen, list[int]] | None:
            self.undo_what_is_due()  # there may be no leader before the frozen one is continued
            return self._candidates(hits)

        try:
            seen, followers = until(candidates, timeout=TIMEOUT_S[hits])
        except AssertionError:
            return replace(nothing, missed=f"nobody to hit: no {hits}")
        pid = {Hits.LEADER: seen.leader, Hits.FOLLOWER: _pick(followers, fault.index), Hits.POOL: None}[hits]
        others = {*followers} - {pid} - self._stopped.keys() - self._leaving if fault.kind != "kill all" else ()
        at = now_ns()
        try:
            self._do(fault, pid)
        except (psutil.NoSuchProcess, NotPossibleError, NotObeyedError) as error:
            return replace(nothing, at=at, until=at, missed=f"too late: {error}")
        over = at + int(fault.seconds * SECOND)
        return replace(nothing, at=at, until=over, pid=pid, term=seen.term, others=len(others))

    def _do(self, fault: Fault, pid: int | None) -> None:
        if (action := self._ground.actions.get(fault.kind)) is not None:
            if (undo := action(self._ground, fault.seconds)) is not None:
                self._later(fault.seconds, undo)
        elif fault.kind in _TO_A_WORKER:
            _TO_A_WORKER[fault.kind](self, psutil.Process(pid), fault)
        else:
            _IN_THE_POOL[fault.kind](self, fault)

    def undo_what_is_due(self) -> float | None:
        """End faults that are due; return the seconds until the next one is due, None if none is left."""
        for moment, undo, number in sorted(self._undo, key=lambda each: each[0]):
            if moment > time.monotonic():
                return moment - time.monotonic()
            self._undo = [each for each in self._undo if each[1] is not undo]
            self._undone[number] = now_ns()
            with contextlib.suppress(psutil.NoSuchProcess):
                try:
                    again = undo()
                except UnnoticedError as error:
                    self.unnoticed.append(str(error))
                else:
                    if isinstance(again, float):
                        self._later(again, undo, number)
        return None

    def as_undone(self, faults: Sequence[Injected]) -> list[Injected]:
        """All faults so far, in their order, with the times at which lasting ones were really ended."""
        return [
            replace(fault, until=max(fault.until, self._undone.get(number, 0)))
            for number, fault in enumerate(faults, start=1)
        ]

    def close(self) -> None:
        """Undo everything, and leave no process behind but the pool's own."""
        for _, undo, _ in self._undo:
            with contextlib.suppress(psutil.NoSuchProcess, AssertionError, UnnoticedError):
                undo()
        self._undo = []
        for burning in self._burning:
            burning.kill()
            burning.wait()
        for second in self.pools[1:]:
            second.reap()

    # --- whom to hit ----------------------------------------------------------------------------------------------

    def _candidates(self, hits: Hits) -> tuple[Seen, list[int]] | None:
        """The view of the pool, and the live followers, as soon as a wanted worker exists."""
        alive = {process.pid for pool in self.pools for process in pool.processes()} - self._killed
        seen = self._ground.look()
        if seen.leader not in alive:
            seen = replace(seen, leader=None)
        followers = [pid for pid in seen.members if pid in alive and pid != seen.leader]
        leads = seen.leader is not None
        enough = {Hits.LEADER: leads, Hits.FOLLOWER: bool(followers), Hits.POOL: leads or (seen.away and followers)}
        return (seen, followers) if enough[hits] else None

    # --- to one worker --------------------------------------------------------------------------------------------

    def kill(self, worker: psutil.Process, fault: Fault) -> None:
        self._killed.add(worker.pid)  # it may take a moment to end, and could be chosen again
        worker.kill()

    def terminate(self, worker: psutil.Process, fault: Fault) -> None:
        self._leaving.add(worker.pid)
        worker.terminate()

    def stop(self, worker: psutil.Process, fault: Fault) -> None:
        def go_on() -> None:
            self._stopped -= Counter([worker.pid])
            if worker.pid not in self._stopped:  # else another fault has stopped it meanwhile, perhaps for good
                worker.resume()

        worker.suspend()
        self._stopped[worker.pid] += 1
        if fault.seconds:
            self._later(fault.seconds, go_on)

    def block(self, worker: psutil.Process, fault: Fault) -> None:
        self._order(worker, f"block {fault.seconds or FOR_GOOD}")

    def use_up_threads(self, worker: psutil.Process, fault: Fault) -> None:
        """Those of the event loop and of FastAPI, all of which the application may need."""
        self._order(worker, f"threads {fault.seconds}")

    def exit(self, worker: psutil.Process, fault: Fault) -> None:
        self._order(worker, "exit")
        self._killed.add(worker.pid)

    def fork_and_kill(self, worker: psutil.Process, fault: Fault) -> None:
        """The child lives on with all that it inherited; only a flock that it does not hold is free at once."""
        with contextlib.suppress(NotObeyedError):  # then it is only killed
            self._order(worker, "fork")
        self.kill(worker, fault)

    def step_clock_of(self, worker: psutil.Process, fault: Fault) -> None:
        self._clock.put(step_of(fault), worker.pid)
        self._later(fault.seconds, lambda: self._clock.put(0, worker.pid))

    def _order(self, worker: psutil.Process, what: str) -> None:
        def hopeless() -> bool:
            return worker.pid in self._stopped or not worker.is_running()

        give(self._orders, worker.pid, what, hopeless=hopeless)

    # --- to the pool ----------------------------------------------------------------------------------------------

    def kill_all(self, fault: Fault) -> None:
        seen = self._ground.look()
        for pid in {*seen.members, seen.leader} - {None}:
            with contextlib.suppress(psutil.NoSuchProcess):
                self.kill(psutil.Process(pid), fault)

    def restart_workers(self, fault: Fault) -> None:
        assert self._pool.parent is not None
        self._pool.parent.send_signal(signal.SIGHUP)

    def second_pool(self, fault: Fault) -> None:
        name = f"second-{len(self.pools)}"
        environment = {**self._environment, "FACTS": str(self._pool.facts_path)}
        second = Pool(
            self._directory / name,
            workers=SECOND_WORKERS,
            pool=self._ground.pool,
            environment=environment,
            start_method="spawn",
        )
        self.pools.append(second)
        second.launch()
        self._later(fault.seconds, lambda: second.parent and second.parent.terminate())

    def copied_pool(self, fault: Fault) -> None:
        """A worker on a copy of the pool."""
        name = f"copy-{len(self.pools)}"
        copied = CopiedPool(self._directory / name, self._ground.copy(name), self._environment)
        self.pools.append(copied.pool)
        self._later(fault.seconds, copied.end)

    def poison(self, fault: Fault) -> None:
        """Jobs that cannot be run, beside those of the pool."""
        self._later(fault.seconds, plant(self._ground))

    def step_clock(self, fault: Fault) -> None:
        self._clock.put(step_of(fault))
        self._later(fault.seconds, lambda: self._clock.put(0))

    def burn(self, fault: Fault) -> None:
        """Start more busy processes than the machine has cores."""
        code = f"import time\nend = time.monotonic() + {fault.seconds}\nwhile time.monotonic() < end: pass"
        self._burning += [subprocess.Popen([sys.executable, "-c", code]) for _ in range((os.cpu_count() or 1) + 1)]

    def _later(self, seconds: float, undo: Callable[[], object], number: int | None = None) -> None:
        """End the fault of that number, by default the present one, in so many seconds."""
        self._undo.append((time.monotonic() + seconds, undo, self._number if number is None else number))


_TO_A_WORKER: dict[str, Callable[[Injector, psutil.Process, Fault], None]] = {
    "kill leader": Injector.kill,
    "kill follower": Injector.kill,
    "exit leader": Injector.exit,
    "fork and kill leader": Injector.fork_and_kill,
    "terminate leader": Injector.terminate,
    "terminate follower": Injector.terminate,
    "stop leader": Injector.stop,
    "stop follower": Injector.stop,
    "stop leader for good": Injector.stop,
    "step clock of leader": Injector.step_clock_of,
    "step clock of follower": Injector.step_clock_of,
    "block follower": Injector.block,
    "use up threads": Injector.use_up_threads,
    "block leader": Injector.block,
    "block leader for good": Injector.block,
}

_IN_THE_POOL: dict[str, Callable[[Injector, Fault], None]] = {
    "kill all": Injector.kill_all,
    "restart workers": Injector.restart_workers,
    "second pool": Injector.second_pool,
    "copied pool": Injector.copied_pool,
    "poison": Injector.poison,
    "step clock": Injector.step_clock,
    "burn": Injector.burn,
}


def _pick(candidates: list[int], index: int) -> int | None:
    return sorted(candidates)[index % len(candidates)] if candidates else None
