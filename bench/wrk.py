"""Load on a server by wrk, which takes far less processor time than the server."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass

CONNECTIONS = 16

_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


@dataclass(frozen=True, slots=True)
class Load:
    """Result of a load. rate: responses a second. errors: by their kind, only those that occurred."""

    rate: float
    p50_ms: float
    p99_ms: float
    errors: dict[str, int]


class Wrk:
    """Run ``wrk`` for so many seconds; it starts at once, so that work can be done meanwhile."""

    def __init__(self, port: int, path: str, seconds: int) -> None:
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", f"http://127.0.0.1:{port}{path}"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def running(self) -> bool:
        return self._process.poll() is None

    def result(self) -> Load:
        """Wait for the end. Raises ``ValueError`` for unexpected output of wrk."""
        said, _ = self._process.communicate()
        rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
        if self._process.returncode or rate is None:
            raise ValueError(f"wrk failed: {said}")
        kinds = re.search(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
        refused = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
        errors = Counter(
            {
                "no connection": int(kinds[1]) if kinds else 0,
                "connection lost": int(kinds[2]) + int(kinds[3]) if kinds else 0,
                "no answer in 2 s": int(kinds[4]) if kinds else 0,
                "not 2xx": int(refused[1]) if refused else 0,
            }
        )
        return Load(float(rate[1]), _ms(said, 50), _ms(said, 99), dict(+errors))


def require() -> None:
    """Raise ``SystemExit`` where there is no wrk."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed; it is the package wrk of Debian and Ubuntu: apt-get install wrk")


def _ms(said: str, percentile: int) -> float:
    found = re.search(rf"^\s+{percentile}%\s+([\d.]+)(us|ms|s|m)\s*$", said, re.MULTILINE)
    if found is None:
        raise ValueError(f"wrk tells no latency: {said}")
    return float(found[1]) * _UNITS[found[2]]
