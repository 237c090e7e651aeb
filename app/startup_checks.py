"""Checks before the workers start: port, pool and public address."""

from __future__ import annotations

import errno
import importlib
import logging
import socket
import sys

from election import ConfigurationError

from .loopback import is_loopback
from .settings import Settings

log = logging.getLogger("run")


def check_startup(settings: Settings, application: str) -> None:
    """Exit with a message if the workers could not serve; warn about a public address.

    Args:
        settings: Flags of run.py.
        application: Module whose ``election`` is checked.

    Raises:
        SystemExit: The port cannot be bound, or the pool is misconfigured.
    """
    _check_port(settings)
    _check_pool(application)
    if not is_loopback(settings.host):
        log.warning(
            "listening on %s: whoever reaches port %d can read /leader and its history",
            settings.host,
            settings.port,
            extra={"event": {"event": "public_address"}},
        )


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
    try:
        importlib.import_module(application).election.check()
    except ConfigurationError as error:
        sys.exit(f"run.py: {error}")
