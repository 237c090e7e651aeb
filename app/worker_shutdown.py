"""Shutdown of the worker processes: with their parent, after a drain, and hard when jobs exceed the drain limit."""

from __future__ import annotations

import asyncio
import importlib
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from multiprocessing import resource_tracker
from typing import Any, NoReturn

from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

APPLICATION = "ELECTION_APPLICATION"
"""Environment variable that names the module which the workers serve."""

log = logging.getLogger("run")


def worker() -> FastAPI:
    """Application factory of each worker process; the worker ends with its parent and never hangs at shutdown."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # blocked by the parent, see WorkerSupervisor
    served = importlib.import_module(os.environ[APPLICATION])
    app: FastAPI = served.app
    app.router.lifespan_context = _within_a_worker(app.router.lifespan_context, served.election)
    return app


class WorkerSupervisor(Multiprocess):
    """Uvicorn's supervisor that detects the exit of a worker during a ping and starts workers with SIGINT blocked.

    Without the block, Ctrl-C during a worker's imports would print a traceback. SIGTERM interrupts a rolling restart,
    which Uvicorn would complete first.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.should_exit = _ExitEvent(self.signal_queue)

    def init_processes(self) -> None:
        resource_tracker.ensure_running()  # its start would unblock SIGINT
        with _blocked(signal.SIGINT):
            super().init_processes()

    def handle_signals(self) -> None:
        with _blocked(signal.SIGINT):
            super().handle_signals()

    def keep_subprocess_alive(self) -> None:
        for process in self.processes:
            process.child_conn.close()  # an open copy here would keep the ping waiting after the worker's exit
        with _blocked(signal.SIGINT):
            super().keep_subprocess_alive()


class _ExitEvent(threading.Event):
    """Event that reads as set as soon as SIGTERM is queued. A signal handler may not call ``set``."""

    def __init__(self, queued: Collection[int]) -> None:
        super().__init__()
        self._queued = queued

    def is_set(self) -> bool:
        return super().is_set() or signal.SIGTERM in self._queued


@contextmanager
def _blocked(number: signal.Signals) -> Iterator[None]:
    """Block a signal in this thread and in processes started within the context."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _within_a_worker(lifespan: Any, election: Any) -> Any:
    @asynccontextmanager
    async def wrapped(app: FastAPI) -> AsyncIterator[Any]:
        if _stop_requested():
            yield None  # a stopping worker does not start the lifespan (docs/pitfalls.md#34)
            return
        _stop_with_parent()
        try:
            async with lifespan(app) as state:
                try:
                    yield state
                except asyncio.CancelledError:  # a second Ctrl-C while Uvicorn waits for connections
                    end_at_once()
                signal.signal(signal.SIGINT, end_at_once)
        finally:
            if left := election.unfinished_jobs():
                log.error(
                    "ending hard: %s still runs after the drain limit",
                    ", ".join(left),
                    extra={"event": {"event": "hard_exit"}},
                )
                _end_hard()

    def end_at_once(*_: object) -> NoReturn:
        log.info(
            "second request to stop: ending at once, without %s",
            ", ".join(election.unfinished_jobs()) or "jobs",
            extra={"event": {"event": "hard_exit_requested"}},
        )
        _end_hard()

    return wrapped


def _end_hard() -> NoReturn:
    logging.shutdown()
    os._exit(1)


def _stop_requested() -> bool:
    """Whether SIGTERM arrived while the application was imported, according to Uvicorn's server."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return bool(getattr(server, "should_exit", False))


def _stop_with_parent() -> None:
    """Stop this worker when its parent dies; it would otherwise keep serving unnoticed (docs/pitfalls.md#31)."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_reader(parent.sentinel)
        log.error("the parent process is gone: this worker stops", extra={"event": {"event": "parent_died"}})
        os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(parent.sentinel, stop)
