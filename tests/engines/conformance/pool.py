"""A pool of some engine, and seats in separate processes that a test uses step by step."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from election.core.seat import Observation, Worker
from election.core.term import Standing, Term
from election.engines import Engine
from election.schedule.ledger import Ledger
from tests.docs.markdown import ROOT, blocks_of
from tests.engines.conformance.engines import engine_on
from tests.schedule.making import at, make_job
from tests.support.processes import ForkServer, ProcessPool, RemoteWorker
from tests.support.waiting import until

TERM: TypeAdapter[Term | None] = TypeAdapter(Term | None)
OBSERVATION = TypeAdapter(Observation)
WORKERS = TypeAdapter(list[Worker])

SECONDS = make_job("interval", seconds=1, start_date=at(-100))
"""The job in the ledger of the tests: a tick each second."""


class RemoteSeat:
    """Handle of a worker's seat; the worker does nothing by itself."""

    def __init__(self, process: RemoteWorker) -> None:
        self.process = process
        self.pid = process.pid

    def __repr__(self) -> str:
        return f"<worker {self.pid}>"

    def open(self) -> None:
        self.process.ask("open")

    def close(self) -> None:
        self.process.ask("close")

    def campaign(self) -> Term | None:
        return TERM.validate_python(self.process.ask("campaign"))

    def wins(self) -> Term:
        """Campaign whenever that may succeed, until it leads."""
        return until(self.campaign, what=f"{self} wins")

    def follow(self) -> None:
        """Wait and campaign by itself from now on, like an elector, until it leads."""
        self.process.ask("follow")

    def led(self) -> Term:
        """Its term after ``follow``, as soon as it leads."""
        term = TERM.validate_python(self.process.ask("led"))
        assert term is not None
        return term

    def held(self, *, in_child: bool = False) -> Term | None:
        return TERM.validate_python(self.process.ask("held_in_child" if in_child else "held"))

    def held_until(self) -> float:
        """Wait until it holds no term; return the latest monotonic time at which it was seen to hold one.

        The time is taken before each request, so that a slow answer makes it no later.
        """
        latest = time.monotonic()

        def ended() -> bool:
            nonlocal latest
            asked = time.monotonic()
            if self.held() is None:
                return True
            latest = asked
            return False

        until(ended, what=f"{self} holds no term")
        return latest

    def confirm(self, takeover_ms: float) -> None:
        self.process.ask("confirm", takeover_ms=takeover_ms)

    def beat(self, problem: str | None = None) -> None:
        self.process.ask("beat", problem=problem)

    def beats(self) -> None:
        """Send heartbeats from now on, as an elector does."""
        self.process.ask("beats")

    def release(self, standing: Standing = Standing.RESIGNED, *, in_child: bool = False) -> None:
        self.process.ask("release_in_child" if in_child else "release", standing=standing.value)

    def observe(self) -> Observation:
        return OBSERVATION.validate_python(self.process.ask("observe"))

    def sees(self, term: int) -> Observation:
        """Its observation as soon as that shows ``term`` led."""

        def seen() -> Observation | None:
            found = self.observe()
            return found if found.led and found.record is not None and found.record.term == term else None

        return until(seen, what=f"{self} sees term {term}")

    def workers(self) -> list[Worker]:
        return WORKERS.validate_python(self.process.ask("workers"))

    def waits(self) -> None:
        """Wait for a vacancy; ``woken`` returns whether that has ended. One wait at a time."""
        self.process.ask("waits")

    def woken(self) -> bool:
        return bool(self.process.ask("woken"))

    def vacancies(self, seconds: float) -> int:
        """Number of times that the wait for a vacancy ended within so many seconds."""
        return int(self.process.ask("vacancies", seconds=seconds))

    def kill(self) -> None:
        self.process.kill()


class Pool(ProcessPool):
    """A pool of an engine at ``url``.

    path: for files of the test. options: those that belong to the URL in every worker, such as ``ledger``. patient: of
    its workers, unless they are given another; see ``patience``.
    """

    def __init__(
        self,
        name: str,
        url: str,
        path: Path,
        server: ForkServer,
        options: Mapping[str, Any] | None = None,
        *,
        patient: bool = False,
    ) -> None:
        super().__init__(server, path)
        self.patient = patient
        self.path = path
        self.name = name
        self.url = url
        self.options = dict(options or {})

    def engine(self, **options: Any) -> Engine:
        """The engine in another worker."""
        return engine_on(self.url, **{**self.options, **options})

    def ledger(self) -> Ledger:
        """The ledger in another worker."""
        return self.engine().open_ledger()

    def worker(self, *, opened: bool = True, url: str | None = None, **options: Any) -> RemoteSeat:
        """Add a worker. url: another address of the pool. ``elsewhere=True``: it reports another host as its own."""
        given = {"url": url or self.url, "options": {"patient": self.patient, **self.options, **options}}
        seat = RemoteSeat(self.fork("tests.engines.conformance.worker", given))
        if opened:
            seat.open()
        return seat


class PoolWithOwnLedger(Pool):
    """A pool of the file engine with the ledger of docs/engines/your-own.md."""

    def engine(self, **options: Any) -> Engine:
        made: Engine = _own_ledger()["with_duckdb"](self.url, str(self.path / "history.duckdb"))
        return made


@functools.cache
def _own_ledger() -> dict[str, Any]:
    """Names of the page's program."""
    [block] = [block for block in blocks_of(ROOT / "docs/engines/your-own.md") if block.language == "python"]
    names: dict[str, Any] = {"__name__": "your_own"}
    exec(compile(block.code, str(block), "exec"), names)
    return names
