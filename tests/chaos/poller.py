"""Polls ``GET /leader`` like a client, and records each answer with its worker and its times."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from .facts import append, now_ns, read_lines

EVERY = 0.04
TIMEOUT_S = 1.0
"""Seconds: a stopped worker answers nothing, and the next connection reaches another."""


@dataclass(frozen=True, slots=True)
class Sample:
    """An answer; its content was true at some instant from ``asked`` to ``answered``. No answer: ``by`` is None."""

    asked: int
    answered: int
    by: int | None = None
    role: str | None = None
    leader: int | None = None
    term: int | None = None
    workers: tuple[int, ...] = ()

    @classmethod
    def from_line(cls, line: dict[str, Any]) -> Sample:
        return cls(**{**line, "workers": tuple(line["workers"])})

    @classmethod
    def read(cls, path: Path) -> list[Sample]:
        return [cls.from_line(line) for line in read_lines(path)]


class Poller:
    """Polls in a thread while the scope is open. path: file for the samples."""

    def __init__(self, port: int, path: Path) -> None:
        self._url = f"http://127.0.0.1:{port}/leader"
        self._path = path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="poller")

    def __enter__(self) -> Poller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _poll(self) -> None:
        with httpx2.Client(timeout=TIMEOUT_S, headers={"Connection": "close"}) as client:
            while not self._stop.wait(EVERY):
                append(self._path, self._ask(client))

    def _ask(self, client: httpx2.Client) -> dict[str, Any]:
        asked = now_ns()
        try:
            found = client.get(self._url).json()
        except (httpx2.TransportError, ValueError):  # nothing listens, or the worker died while answering
            return {"asked": asked, "answered": now_ns(), "workers": []}
        leader = found["leader"] or {}
        return {
            "asked": asked,
            "answered": now_ns(),
            "by": found["answered_by"]["pid"],
            "role": found["answered_by"]["role"],
            "leader": leader.get("pid"),
            "term": leader.get("term"),
            "workers": [worker["pid"] for worker in found["workers"]],
        }
