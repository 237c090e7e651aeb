"""Keeps a lease that may not be given up, because job code still runs (P5), until this process is gone."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from .address import Address
from .scripts import RENEW


def keep(address: Address, arguments: Sequence[Any], every: float) -> None:
    """Renew a lease every so many seconds, in a thread that nothing waits for. arguments: as the seat gives them."""

    def renew() -> None:
        client = Redis.from_url(address.url)
        while True:
            with contextlib.suppress(RedisError, OSError):
                client.eval(RENEW.text, 1, f"{address.prefix}term", address.prefix, *arguments)
            time.sleep(every)

    threading.Thread(target=renew, name="election-lease", daemon=True).start()
