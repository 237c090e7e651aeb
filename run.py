"""Serve the demonstration with several Uvicorn workers: ``python run.py --help``."""

import os
import sys
from typing import Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from app.logs import log_config
from app.settings import read_settings
from app.startup_checks import check_startup
from app.worker_shutdown import APPLICATION, WorkerSupervisor

GRACEFUL_SHUTDOWN = 5
"""Seconds for open connections, such as event streams: Uvicorn awaits them before it ends the lifespan."""

HEALTHCHECK = 30
"""Seconds before Uvicorn kills a worker that does not answer its ping; its default of 5 kills busy workers
(uvicorn#2500, #2506, #2711). The heartbeat detects a leader whose event loop hangs."""


def main(application: str = "app.main", **options: Any) -> None:
    """Serve the ``app`` of the module ``application``; ``options`` are further arguments of ``uvicorn.Config``."""
    settings = read_settings()
    os.environ[APPLICATION] = application
    config = uvicorn.Config(
        "app.worker_shutdown:worker",
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
    check_startup(settings, application)
    with config.bind_socket() as listening:
        supervisor = WorkerSupervisor(config, [listening])
        supervisor.run()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        sys.exit(STARTUP_FAILURE)


if __name__ == "__main__":
    main()
