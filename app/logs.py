"""Logging of the processes of ``run.py``: as text, or as one JSON object per line for machines."""

from __future__ import annotations

import copy
import json
import logging
from datetime import UTC, datetime
from typing import Any

from uvicorn.config import LOGGING_CONFIG

_OWN = vars(logging.makeLogRecord({})).keys() | {"message", "asctime", "color_message"}
"""Attributes of every log record; the last is Uvicorn's, for terminals."""


class JsonFormatter(logging.Formatter):
    """One JSON object per line: ``ts`` (UTC), ``level``, ``logger``, ``pid``, ``message``, then the fields of
    ``extra`` (in the election's own lines ``event``, with its fields), and ``exception``, the traceback.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without a newline."""
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _OWN and name not in line}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class WithoutPolling(logging.Filter):
    """Removes the live page's requests, three a second, from the access log."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be logged."""
        return not (isinstance(record.args, tuple) and len(record.args) > 2 and _POLLED in str(record.args[2]))


_POLLED = "/leader/live/data"


def log_config(level: str, form: str) -> dict[str, Any]:
    """Uvicorn's own logging, with the election's and the application's lines beside it; ``form``: text or json."""
    config = copy.deepcopy(LOGGING_CONFIG)
    config["formatters"]["plain"] = {"format": "%(asctime)s.%(msecs)03d %(levelname)-7s [%(process)d] %(message)s"}
    config["formatters"]["plain"]["datefmt"] = "%H:%M:%S"
    if form == "json":
        config["formatters"] = {name: {"()": JsonFormatter} for name in config["formatters"]}
    config["filters"] = {"without polling": {"()": WithoutPolling}}
    config["handlers"]["access"]["filters"] = ["without polling"]
    config["handlers"]["plain"] = {"class": "logging.StreamHandler", "formatter": "plain"}
    levels = {"election": level, "app": level, "run": level, "apscheduler": "error" if level == "error" else "warning"}
    for name, least in levels.items():
        config["loggers"][name] = {"handlers": ["plain"], "level": least.upper(), "propagate": False}
    return config
