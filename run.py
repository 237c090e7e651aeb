"""Serve the demonstration with several Uvicorn workers: ``python run.py --help``."""

from __future__ import annotations

import asyncio
import copy
import errno
import logging
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic_settings import CliApp
from uvicorn.config import LOGGING_CONFIG

from app.settings import Settings

GRACEFUL_SHUTDOWN = 5
"""Seconds for open connections, such as event streams: Uvicorn awaits them before it ends the lifespan."""

HEALTHCHECK = 30
"""Seconds before Uvicorn kills a worker that does not answer its ping. Its default of 5 kills workers that are only
busy (uvicorn#2500, #2506, #2711); a leader whose event loop hangs is noticed by its heartbeat instead."""

log = logging.getLogger("run")


def main() -> None:
    """Read flags and environment, refuse what cannot work, and serve."""
    settings = CliApp.run(Settings)
    for name, value in settings.model_dump().items():
        os.environ[f"ELECTION_{name.upper()}"] = str(value)  # for the workers, which read it in processes of their own
    _check_port(settings)
    _check_pool()
    uvicorn.run(
        "run:worker",
        factory=True,
        app_dir=os.path.dirname(os.path.abspath(__file__)),
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        log_config=_log_config(settings.log_level),
        log_level=settings.log_level,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN,
        timeout_worker_healthcheck=HEALTHCHECK,
    )


def worker() -> FastAPI:
    """What each worker process serves: the application, which ends when its parent does and never hangs on."""
    from app.main import app

    app.router.lifespan_context = _within_a_worker(app.router.lifespan_context)
    return app


def _within_a_worker(lifespan: Any) -> Any:
    @asynccontextmanager
    async def wrapped(app: FastAPI) -> AsyncIterator[Any]:
        from app.main import election

        _stop_with_parent()
        async with lifespan(app) as state:
            yield state
        if left := election.unfinished_jobs():
            log.error("ending hard: %s still runs after the drain limit", ", ".join(left))
            logging.shutdown()
            os._exit(1)

    return wrapped


def _stop_with_parent() -> None:
    """A worker whose parent was killed would go on serving on its port, unseen (PITFALLS 31)."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_reader(parent.sentinel)
        log.error("the parent process is gone: this worker stops")
        os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(parent.sentinel, stop)


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


def _check_pool() -> None:
    from app.main import election
    from election import ConfigurationError

    try:
        election.check()
    except ConfigurationError as error:
        sys.exit(f"run.py: {error}")


def _log_config(level: str) -> dict[str, Any]:
    """Uvicorn's own logging, with the election's and the application's lines beside it."""
    config = copy.deepcopy(LOGGING_CONFIG)
    config["formatters"]["plain"] = {"format": "%(asctime)s.%(msecs)03d %(levelname)-7s [%(process)d] %(message)s"}
    config["formatters"]["plain"]["datefmt"] = "%H:%M:%S"
    config["handlers"]["plain"] = {"class": "logging.StreamHandler", "formatter": "plain"}
    for name in ("election", "app", "run"):
        config["loggers"][name] = {"handlers": ["plain"], "level": level.upper(), "propagate": False}
    return config


if __name__ == "__main__":
    main()
