"""Two "hosts" and a server's host, each a network namespace, with a cable from either host to the server's.

The addresses are loopback addresses, so that nothing can leave the machine. Linux, and root only.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from .facts import Facts

ROOT = Path(__file__).parents[2]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Hosts:
    """Hosts ``a`` and ``b`` with an address each for the server's host."""

    def __init__(self, name: str) -> None:
        self.server = f"{name}s"
        self.names = {"a": f"{name}a", "b": f"{name}b"}
        self.addresses = {"a": "127.77.1.1", "b": "127.77.2.1"}

    def make(self) -> None:
        for namespace in (self.server, *self.names.values()):
            _ip("netns", "add", namespace)
            self._within(namespace, "ip", "link", "set", "lo", "up")
            self._within(namespace, "ip", "addr", "del", "127.0.0.1/8", "dev", "lo")
            self._within(namespace, "ip", "addr", "add", "127.0.0.1/32", "dev", "lo")
        for host, namespace in self.names.items():
            here, there = f"to{host}", "cable"
            peer = ["peer", "name", there, "netns", namespace]
            _ip("link", "add", here, "netns", self.server, "type", "veth", *peer)
            ends = [(self.server, here, self.addresses[host]), (namespace, there, f"{self.addresses[host][:-1]}2")]
            for where, device, address in ends:
                self._within(where, "sysctl", "-q", "-w", f"net.ipv4.conf.{device}.route_localnet=1")
                self._within(where, "ip", "addr", "add", f"{address}/24", "dev", device)
                self._within(where, "ip", "link", "set", device, "up")

    def on(self, host: str) -> list[str]:
        """Command prefix that runs a command on this host."""
        return ["ip", "netns", "exec", self.names.get(host, self.server)]

    def cut(self, host: str) -> None:
        """Cut its cable: packets are dropped silently."""
        self._within(self.server, "ip", "link", "set", f"to{host}", "down")

    def mend(self, host: str) -> None:
        self._within(self.server, "ip", "link", "set", f"to{host}", "up")

    def remove(self) -> None:
        for namespace in (self.server, *self.names.values()):
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "del", namespace)

    def _within(self, namespace: str, *command: str) -> None:
        subprocess.run(["ip", "netns", "exec", namespace, *command], check=True, capture_output=True, text=True)


@contextlib.contextmanager
def two_hosts() -> Iterator[Hosts]:
    """Skip the test where namespaces cannot be made."""
    if os.geteuid() != 0:
        pytest.skip("only root can make network namespaces")
    hosts = Hosts(f"el{os.getpid() % 100000}")
    try:
        try:
            hosts.make()
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"this system makes no network namespaces: {getattr(error, 'stderr', None) or error}")
        yield hosts
    finally:
        hosts.remove()


class Program:
    """Run ``tests.support.program`` on a host, in the pool at ``url``; facts and logs go to ``path``."""

    def __init__(self, scope: ExitStack, hosts: Hosts, host: str, url: str, path: Path) -> None:
        self._url = url
        self._on = hosts.on(host)
        self._facts = path / "facts"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "FACTS": str(self._facts), "ELECTION_POOL": url}
        command = [*self._on, sys.executable, "-m", "tests.support.program"]
        log = scope.enter_context((path / f"log-{host}").open("wb"))
        self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=ROOT)
        scope.callback(self._end)

    def seen(self) -> list[dict[str, Any]]:
        """States of the pool that it observed, oldest first."""
        return [fact for fact in Facts.read(self._facts).of("seen") if fact["pid"] == self.process.pid]

    def leads(self) -> bool:
        return bool(self.seen() and self.seen()[-1]["leads"])

    def runs(self) -> int:
        """Number of runs of its job that it has begun."""
        return sum(fact["pid"] == self.process.pid for fact in Facts.read(self._facts).of("begin", "tick"))

    def follows(self) -> bool:
        """Whether it observes a leader and no problem."""
        last = self.seen()[-1] if self.seen() else None
        return last is not None and not last["leads"] and last["state"] == "led" and not last["problem"]

    def verify(self) -> subprocess.CompletedProcess[str]:
        """Result of ``verify`` on the pool's history."""
        return self._ask("verify")

    def interrupted(self) -> list[datetime]:
        """Due times of the runs that the end of a leader interrupted."""
        asked = self._ask("runs", "--outcome", "interrupted", "--json")
        return [datetime.fromisoformat(run["due"]) for run in json.loads(asked.stdout)]

    def skipped(self) -> dict[datetime, str]:
        """Reasons of single ticks that were skipped, by their due times."""
        asked = self._ask("skips", "--limit", "1000", "--json")
        return {datetime.fromisoformat(skip["last_due"]): skip["reason"] for skip in json.loads(asked.stdout)}

    def _ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [*self._on, sys.executable, "-m", "election", *words, "--pool", self._url]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    def _end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
