"""Functions of jobs: their names, whether they can run, and whether two of them are the same."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from election.core.callables import without_partial
from election.core.errors import JobDefinitionError


def same_function(one: Any, other: Any) -> bool:
    if isinstance(one, functools.partial) and isinstance(other, functools.partial):
        return same_function(one.func, other.func) and (one.args, one.keywords) == (other.args, other.keywords)
    return bool(one == other)


def same_code(one: Any, other: Any) -> bool:
    """Whether both functions were made by the same lines: a function within another one is made anew by each call."""
    codes = _codes(one)
    same = None not in codes and [*map(id, codes)] == [*map(id, _codes(other))]  # equal code may stand in two files
    return same or same_function(one, other)


def _codes(func: Any) -> list[Any]:
    """Code of a function and of those that it wraps: that of a decorator's wrapper is the same for each of them."""
    codes = []
    while func is not None:
        func = without_partial(func)
        codes.append(getattr(func, "__code__", None))
        func = getattr(func, "__wrapped__", None)
    return codes


def refuse_what_cannot_be_stored(job_id: str, func: Callable[..., Any]) -> None:
    """Raise ``JobDefinitionError`` for a function that another process cannot import, with what to give instead."""
    name: str = getattr(func, "__qualname__", "")
    if isinstance(func, functools.partial):
        refused, instead = "a partial", "give its function, and the arguments by name: kwargs=…"
    elif inspect.ismethod(func) and not inspect.isclass(func.__self__):
        refused = "a method of an object, which is another one in each process,"
        instead = "give a function at module level that finds the object and calls the method"
    elif not name:
        refused, instead = "an object that can be called", "give a function at module level that calls it"
    elif "<lambda>" in name:
        refused, instead = "a lambda", "give a function at module level"
    elif "<locals>" in name:
        refused = "a function within another one"
        instead = "give one at module level; a decorator's wrapper needs functools.wraps"
    else:
        return
    raise JobDefinitionError(f"job {job_id!r}: {refused} cannot be stored: {instead}")


def refuse_what_cannot_run(job_id: str, func: Callable[..., Any]) -> None:
    """Raise ``JobDefinitionError`` for a function that does nothing when it is called, or awaited."""
    plain = without_partial(func)
    for each in (plain, type(plain).__call__):
        if inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each):
            raise JobDefinitionError(
                f"job {job_id!r}: {plain!r} is a generator function, none of whose code would run; give a function"
                " that iterates over it: for _ in generator(): pass"
            )


def reference_to(func: Callable[..., Any]) -> str:
    """``module:qualname`` of a function. Raises ``JobDefinitionError`` for one without a name."""
    named: Any = without_partial(func)
    if not callable(named):
        raise JobDefinitionError(
            f"{named!r} is no function: give the function itself, add_job(report, …), and not what it returns,"
            " add_job(report(), …)"
        )
    try:
        owner = getattr(named, "__self__", None)
        if isinstance(owner, type):  # a class method, which a base class may have defined
            return f"{owner.__module__}:{owner.__qualname__}.{named.__name__}"
        return f"{named.__module__}:{named.__qualname__}"
    except AttributeError:
        raise JobDefinitionError(f"{func!r} has no name that is the same in each process; give an id: id=…") from None
