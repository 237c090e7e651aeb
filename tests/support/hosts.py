"""Two "hosts" and a server's, each a network namespace, with a cable from either host to the server's.

The addresses are loopback addresses, so nothing can leave the machine by mistake. Linux, and root only.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator

import pytest


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Hosts:
    """``a`` and ``b`` reach the server's host at an address each."""

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
        """The command that runs another on this host."""
        return ["ip", "netns", "exec", self.names.get(host, self.server)]

    def cut(self, host: str) -> None:
        """Cut its cable: nothing comes through, and nobody is told."""
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
    """Skips the test where no such thing can be made."""
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
