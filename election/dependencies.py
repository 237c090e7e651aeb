"""FastAPI's dependencies in jobs: ``async def report(session: Annotated[Session, Depends(get_session)])``.

FastAPI itself provides the values: the job is called inside the endpoint of a route of a private application. So all
that works in an endpoint works in a job: dependencies of dependencies, ``yield``, caching within a run,
``dependency_overrides``. The request that a dependency reads is empty, except for ``request.app.state``.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import Awaitable, Callable, Generator, Hashable, Iterable
from concurrent.futures import CancelledError, Future
from contextvars import Context, copy_context
from types import SimpleNamespace, TracebackType
from typing import Any, get_type_hints

from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI, Request, Response
from fastapi.params import Depends

from election.core.callables import discard_awaitable, is_coroutine_function, resolve_result, without_partial
from election.core.errors import JobDefinitionError
from election.schedule.job_runner import begin_preparation, end_preparation

_PATH = "/job"


class Dependencies:
    """Wraps the functions of jobs that have dependencies.

    Attributes:
        app: Application whose overrides and state are used; None if the Election has none.
        loop: Event loop in which dependencies are provided; None before the start.
    """

    def __init__(self) -> None:
        self.app: FastAPI | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self._wrapped: dict[Callable[..., Any], Callable[..., Any]] = {}

    def use(self, app: Any) -> None:
        """Use the overrides and the state of this application, if it is one of FastAPI's."""
        self.app = app if isinstance(app, FastAPI) else None

    def wrap(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Function that provides the dependencies of ``func`` and calls it; ``func`` itself if it has none.

        Raises ``JobDefinitionError`` if FastAPI refuses one of them.
        """
        if not (parameters := _dependencies_of(func)):
            return func
        if not isinstance(func, Hashable):
            raise JobDefinitionError(f"{func!r} has dependencies and cannot be hashed; give a function that calls it")
        if func not in self._wrapped:
            try:
                application = _application(parameters)
            except Exception as error:  # FastAPI's, or of a class that it cannot use
                raise JobDefinitionError(f"{func!r}: its dependencies cannot be provided: {error}") from error
            self._wrapped[func] = self._wrapper(func, parameters, application)
        return self._wrapped[func]

    def _wrapper(
        self, func: Callable[..., Any], parameters: list[inspect.Parameter], application: FastAPI
    ) -> Callable[..., Any]:
        make = self._awaited if is_coroutine_function(func) else self._called_in_thread
        wrapper = make(func, application)
        functools.update_wrapper(wrapper, without_partial(func))
        names = {parameter.name for parameter in parameters}
        signature = inspect.signature(func)
        others = [parameter for name, parameter in signature.parameters.items() if name not in names]
        wrapper.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
        return wrapper

    def _awaited(self, func: Callable[..., Any], application: FastAPI) -> Callable[..., Any]:
        """Wrapper of a coroutine function."""

        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            result: list[Any] = []

            async def call(**values: Any) -> None:
                result.append(await resolve_result(func(*args, **kwargs, **values)))

            await self._within(application, call)
            return result[0]

        return wrapper

    def _called_in_thread(self, func: Callable[..., Any], application: FastAPI) -> Callable[..., Any]:
        """Wrapper of a plain function: it is called in its thread while its dependencies are open in the event loop."""

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            assert self.loop is not None
            provided, called = Future[tuple[dict[str, Any], Context]](), Future[BaseException | None]()

            async def call(**values: Any) -> None:
                end_preparation()
                provided.set_result((values, copy_context()))  # with the variables that dependencies have set
                if (error := await asyncio.wrap_future(called)) is not None:  # it is raised in the dependencies, too
                    raise RuntimeError("the job raised StopIteration") if isinstance(error, StopIteration) else error

            async def outcome() -> BaseException | None:
                """Keep the exception: in a task, some exceptions would end the event loop."""
                try:
                    begin_preparation(_is_in_thread())
                    await self._within(application, call)
                except BaseException as error:
                    return error
                return None

            within = asyncio.run_coroutine_threadsafe(outcome(), self.loop)
            within.add_done_callback(lambda _: provided.cancel())
            try:
                values, context = provided.result()
            except CancelledError:
                _raise(within.result())  # the reason why no values were provided
                raise
            try:
                value = context.run(func, *args, **kwargs, **values)
            except BaseException as error:
                called.set_result(error)
            else:
                if inspect.isawaitable(value):
                    return _Rest(value, context, called, within)
                called.set_result(None)
            _raise(within.result())
            return value

        return wrapper

    async def _within(self, application: FastAPI, call: Callable[..., Awaitable[None]]) -> None:
        """Await ``call`` with the values of its dependencies, which are closed at its end."""
        raised: list[tuple[BaseException, TracebackType | None]] = []

        async def call_and_note(**values: Any) -> None:
            try:
                await call(**values)
            except BaseException as error:
                raised.append((error, error.__traceback__))
                raise

        if self.app is not None:
            application.dependency_overrides, application.state = self.app.dependency_overrides, self.app.state
        answer: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            answer.append(message)

        scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": _PATH, "raw_path": _PATH.encode(), "query_string": b"", "root_path": "", "headers": [],
            "client": None, "server": None, "state": {}, _CALL: call_and_note,
        }  # fmt: skip
        try:
            await application(scope, receive, send)
        except Exception:
            if not raised:
                raise
        if raised:  # also an exception that a web application turns into a response, such as HTTPException
            error, its_traceback = raised[0]
            raise error.with_traceback(its_traceback)  # without FastAPI's frames
        status = next((message["status"] for message in answer if message["type"] == "http.response.start"), None)
        if status != _CALLED:
            text = b"".join(message.get("body", b"") for message in answer).decode(errors="replace")
            raise JobDefinitionError(f"the job's dependencies cannot be provided: {text}")


_CALLED = 204
"""Status of a response after the job was called."""


_CALL = "election.call"
"""Key in a request's scope: the function that is called with the values."""


async def _endpoint(election_request: Request, **values: Any) -> Response:
    """Pass the values of the dependencies on."""
    await election_request.scope[_CALL](**values)
    return Response(status_code=_CALLED)


def _application(parameters: Iterable[inspect.Parameter]) -> FastAPI:
    """Application with one route, whose endpoint has these parameters."""
    endpoint = functools.partial(_endpoint)  # FastAPI would look for the file of a plain function, on the event loop
    request = inspect.Parameter("election_request", inspect.Parameter.KEYWORD_ONLY, annotation=Request)
    others = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    endpoint.__signature__ = inspect.Signature([request, *others])  # type: ignore[attr-defined]
    application = FastAPI(openapi_url=None)
    application.add_api_route(_PATH, endpoint, methods=["POST"], response_model=None)
    return application


def _dependencies_of(func: Callable[..., Any]) -> list[inspect.Parameter]:
    """Parameters of a function that FastAPI's ``Depends`` provides."""
    try:
        signature = inspect.signature(func)
    except (TypeError, ValueError):  # no Python function
        return []
    names = getattr(inspect.unwrap(without_partial(func)), "__globals__", {})
    parameters = [_with_type(parameter, names) for parameter in signature.parameters.values()]
    return [
        parameter
        for parameter in parameters
        if isinstance(parameter.default, Depends)
        or any(isinstance(each, Depends) for each in getattr(parameter.annotation, "__metadata__", ()))
    ]


def _with_type(parameter: inspect.Parameter, names: dict[str, Any]) -> inspect.Parameter:
    """Return the parameter with a text annotation evaluated, unless its names are imported for type checkers only."""
    if isinstance(parameter.annotation, str):
        with contextlib.suppress(Exception):
            text = SimpleNamespace(__annotations__={"it": parameter.annotation})
            return parameter.replace(annotation=get_type_hints(text, names, include_extras=True)["it"])
    return parameter


def _is_in_thread() -> Callable[[], bool]:
    """Tells whether the current task waits for a plain dependency: its cancellation would leave that thread running."""
    task, threads = asyncio.current_task(), current_default_thread_limiter()
    return lambda: task in threads.statistics().borrowers


class _Rest:
    """Awaitable that a plain function has returned, such as a decorator around a coroutine function.

    It is awaited with the dependencies open, and with the variables that they have set.
    """

    def __init__(
        self, value: Any, context: Context, called: Future[BaseException | None], within: Future[BaseException | None]
    ) -> None:
        self._value = value
        self._context = context
        self._called = called
        self._within = within

    def __await__(self) -> Generator[Any, None, Any]:
        return self._awaited().__await__()

    def close(self) -> None:
        """Close the dependencies without awaiting the value."""
        discard_awaitable(self._value)
        self._called.set_result(asyncio.CancelledError())

    async def _awaited(self) -> Any:
        for variable, value in self._context.items():
            variable.set(value)
        error: BaseException | None = None
        try:
            value = await resolve_result(self._value)
        except BaseException as raised:
            error = raised
        self._called.set_result(error)
        _raise(await asyncio.shield(asyncio.wrap_future(self._within)))
        return value


def _raise(error: BaseException | None) -> None:
    if error is not None:
        raise error
