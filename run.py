"""Serve the demonstration with several Uvicorn workers: ``python run.py --help``."""

from __future__ import annotations

import asyncio
import errno
import importlib
import ipaddress
import logging
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from multiprocessing import resource_tracker
from typing import Any, NoReturn

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError
from pydantic_settings import CliApp
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from app.logs import log_config
from app.settings import Settings

GRACEFUL_SHUTDOWN = 5
"""Seconds for open connections, such as event streams: Uvicorn awaits them before it ends the lifespan."""

HEALTHCHECK = 30
"""Seconds before Uvicorn kills a worker that does not answer its ping. Its default of 5 kills workers that are only
busy (uvicorn#2500, #2506, #2711); a leader whose event loop hangs is noticed by its heartbeat instead."""

APPLICATION = "ELECTION_APPLICATION"
"""Environment variable that tells the workers which module to serve."""

log = logging.getLogger("run")


def main(application: str = "app.main", **options: Any) -> None:
    """Read flags and environment, refuse what cannot work, and serve.

    application: the module whose ``app`` and ``election`` are served.
    options: for ``uvicorn.Config``, beside those given here.
    """
    settings = _settings()
    config = uvicorn.Config(
        "run:worker",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        log_config=log_config(settings.log_level, settings.log_format),
        log_level=settings.log_level,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN,
        timeout_worker_healthcheck=HEALTHCHECK,
        **options,
    )
    for name, value in settings.model_dump().items():
        os.environ[f"ELECTION_{name.upper()}"] = str(value)  # for the workers, which read it in processes of their own
    os.environ[APPLICATION] = application
    _check_port(settings)
    _check_pool(application)
    if not _is_loopback(settings.host):
        log.warning(
            "listening on %s: whoever reaches port %d can read /leader and its history",
            settings.host,
            settings.port,
            extra={"event": {"event": "public_address"}},
        )
    with config.bind_socket() as listening:
        parent = Parent(config, [listening])
        parent.run()
    if any(process.exitcode == STARTUP_FAILURE for process in parent.processes):
        sys.exit(STARTUP_FAILURE)


def worker() -> FastAPI:
    """What each worker process serves: the application, which ends when its parent does and never hangs on."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # held back by the parent, see there
    served = importlib.import_module(os.environ[APPLICATION])
    app: FastAPI = served.app
    app.router.lifespan_context = _within_a_worker(app.router.lifespan_context, served.election)
    return app


class Parent(Multiprocess):
    """Uvicorn's parent of the workers, made to notice the end of one that it pings, and to start them out of reach of
    Ctrl-C: a worker that is still importing would answer it with a traceback."""

    def init_processes(self) -> None:
        resource_tracker.ensure_running()  # now, because its start undoes what is held back
        with _held_back(signal.SIGINT):
            super().init_processes()

    def handle_signals(self) -> None:
        with _held_back(signal.SIGINT):
            super().handle_signals()

    def keep_subprocess_alive(self) -> None:
        for process in self.processes:
            process.child_conn.close()  # the worker has its own; with ours open, its end would not end the ping
        with _held_back(signal.SIGINT):
            super().keep_subprocess_alive()


@contextmanager
def _held_back(number: signal.Signals) -> Iterator[None]:
    """Keep a signal waiting, here and in processes that are started meanwhile."""
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
        if _told_to_stop():
            yield None  # nothing begins on the way down (docs/pitfalls.md#34)
            return
        _stop_with_parent()
        try:
            async with lifespan(app) as state:
                try:
                    yield state
                except asyncio.CancelledError:  # what a second Ctrl-C comes to while connections are awaited
                    end_at_once()
                signal.signal(signal.SIGINT, end_at_once)  # from here on, nothing
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
            "told to stop once more: ending at once, without %s",
            ", ".join(election.unfinished_jobs()) or "jobs",
            extra={"event": {"event": "hard_exit_requested"}},
        )
        _end_hard()

    return wrapped


def _end_hard() -> NoReturn:
    logging.shutdown()
    os._exit(1)


def _told_to_stop() -> bool:
    """Whether the signal came already, while the application was imported: the server that handles it knows."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return bool(getattr(server, "should_exit", False))


def _stop_with_parent() -> None:
    """A worker whose parent was killed would go on serving on its port, unseen (docs/pitfalls.md#31)."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_reader(parent.sentinel)
        log.error("the parent process is gone: this worker stops", extra={"event": {"event": "parent_died"}})
        os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(parent.sentinel, stop)


def _settings() -> Settings:
    try:
        return CliApp.run(Settings)
    except ValidationError as error:
        wrong = [
            f"--{(name := str(each['loc'][0])).replace('_', '-')} (or ELECTION_{name.upper()}) {each['input']!r}:"
            f" {each['msg'][0].lower()}{each['msg'][1:]}"
            for each in error.errors(include_url=False)
        ]
        sys.exit(f"run.py: {'; '.join(wrong)}; see --help")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_port(settings: Settings) -> None:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            way_out = {
                errno.EADDRINUSE: f"something listens there already (ss -ltnp 'sport = :{settings.port}' names it);"
                " end it, or choose another --port",
                errno.EACCES: "ports below 1024 need privileges; choose another --port",
            }.get(error.errno or 0, "choose an address of this machine as --host")
            sys.exit(f"run.py: cannot listen on {settings.host}:{settings.port}: {error.strerror}: {way_out}")


def _check_pool(application: str) -> None:
    from election import ConfigurationError

    try:
        importlib.import_module(application).election.check()
    except ConfigurationError as error:
        sys.exit(f"run.py: {error}")


if __name__ == "__main__":
    main()
