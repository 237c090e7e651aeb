"""Proxy that resolves its target on each access."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

_T = TypeVar("_T")


def current(get: Callable[[], _T]) -> _T:
    """An object that does, at each use, what ``get()`` does by then.

    The routes of an application are built once, before a test may put a pool in memory in the real one's place.
    """
    return cast(_T, _Current(get))


class _Current:
    def __init__(self, get: Callable[[], Any]) -> None:
        self._get = get

    def __getattr__(self, name: str) -> Any:
        return getattr(self._get(), name)
