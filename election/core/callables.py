"""Functions of the application, in all forms in which Python has them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


def without_partial(func: Callable[..., Any]) -> Callable[..., Any]:
    """The function that ``functools.partial`` calls in the end."""
    while isinstance(func, functools.partial):
        func = func.func
    return func


def is_coroutine_function(func: Callable[..., Any]) -> bool:
    """Whether calling ``func`` gives a coroutine; sees through ``functools.partial`` and callable objects."""
    func = without_partial(func)
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(type(func).__call__)


async def resolve_result(value: Any) -> Any:
    """Await what a function has returned, until it is no awaitable: a lambda or a decorator hands a coroutine on."""
    while inspect.isawaitable(value):
        value = await value
    return value


def discard_awaitable(value: Any) -> None:
    """Drop an awaitable that is not going to be awaited."""
    for name in ("close", "cancel"):
        if callable(drop := getattr(value, name, None)):
            drop()
            return


def name_of(func: Callable[..., Any]) -> str:
    """Name of a function for log lines; the ``repr`` of an object without one."""
    return getattr(without_partial(func), "__qualname__", None) or repr(func)
