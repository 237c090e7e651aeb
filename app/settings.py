"""The settings of the demonstration: the flags of run.py, each also an ``ELECTION_…`` environment variable."""

from __future__ import annotations

import os
import sys
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, CliApp, SettingsConfigDict


class Settings(BaseSettings):
    """Serve the demonstration with several workers, one of which runs the schedule."""

    model_config = SettingsConfigDict(env_prefix="ELECTION_", cli_kebab_case=True, cli_hide_none_type=True)

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on")
    workers: int = Field(4, ge=1, le=256, description="worker processes")
    pool: str = Field("var/pool", description="directory of the pool, or postgresql://… or redis://…")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="minimum level to log")
    log_format: Literal["text", "json"] = Field("text", description="log format: text, or one JSON object per line")
    drain_timeout: float = Field(10.0, ge=0, description="seconds that running jobs get to end at a shutdown")
    fence_after: float = Field(
        15.0,
        ge=0,
        description="seconds after which a leader without a heartbeat, or a worker that keeps the ledger locked, is"
        " killed; 0 for never",
    )


def read_settings() -> Settings:
    """Settings from flags and environment, exported as ``ELECTION_…`` variables for the worker processes.

    Raises:
        SystemExit: A value is invalid; the message names its flag and variable.
    """
    try:
        settings = CliApp.run(Settings)
    except ValidationError as error:
        wrong = [
            f"--{(name := str(each['loc'][0])).replace('_', '-')} (or ELECTION_{name.upper()}) {each['input']!r}:"
            f" {each['msg'][0].lower()}{each['msg'][1:]}"
            for each in error.errors(include_url=False)
        ]
        sys.exit(f"run.py: {'; '.join(wrong)}; see --help")
    for name, value in settings.model_dump().items():
        os.environ[f"ELECTION_{name.upper()}"] = str(value)
    return settings
