"""``GET /leader/live``: a page that shows the activity of the pool, from any worker, and the document that it draws.

The page is one answer, so that it is complete even if the worker that served it is dead a moment later; afterwards it
uses any worker that answers. It polls, with requests that end at once, and so never keeps a worker from stopping.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from importlib import resources
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Query, Response
from pydantic import StringConstraints

from .history_cache import HistoryCache, without
from .view import PoolView

SCRIPTS = (
    "words.js",
    "state.js",
    "marks.js",
    "place.js",
    "picture.js",
    "pointing.js",
    "tables.js",
    "grid.js",
    "control.js",
    "chart.js",
    "job.js",
    "main.js",
)
"""The parts of the page's script, in their order: each uses those before it."""

COMMENT = re.compile(r"(^|\s)// .*$")
"""A comment of the script; no text in it has two slashes before a blank."""

SPACED_IN_SCRIPT = re.compile(r" (=|=>|===|!==|&&|\|\||\?\??|[:<>+*]|[<>+]=) |(?<=\)) (?=\{)")
"""Operators between blanks, which no text of the script contains."""

SPACED_IN_STYLE = re.compile(r"\s*([{}:;,])\s+|\s+(?=\{)")
"""Punctuation before a blank, which no text of the style contains."""

MAX_MOMENT_MS = 253_402_300_799_000
"""The last moment of the year 9999, in milliseconds since the epoch."""

DEFAULT_PERIOD_MIN = 5
"""Default period of the picture, in minutes."""

ControlKind = Literal["token", "application"] | None
"""Authentication of the routes that change something: by the token or by the application; None without such routes."""

MAX_ROWS_READ = 40
"""Jobs whose latest runs are read by one request of the page."""

JobName = Annotated[str, StringConstraints(max_length=500)]

Moment = Annotated[int | None, Query(ge=0, le=MAX_MOMENT_MS, description="in milliseconds since the epoch")]


def live_routes(view: PoolView, *, controls: ControlKind) -> APIRouter:
    """The page and its document."""
    router = APIRouter()
    cache = HistoryCache(view)
    page, policy = _page()
    headers = {
        "Cache-Control": "no-store",  # a page of another version could not read the document
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }

    @router.get("/leader/live", response_class=Response, responses={200: {"content": {"text/html": {}}}})
    async def read_page() -> Response:
        """The live page."""
        return Response(page, headers=headers, media_type="text/html")

    @router.get("/leader/live/data", include_in_schema=False)
    async def read_data(since: Moment = None, until: Moment = None) -> Response:
        """Data of the page. Belongs to the page of the same version, and may change with it."""
        document = await view.document()
        now = view.clock.now().timestamp() * 1000
        if view.absence() is None:
            history = await cache.between(round(now) - DEFAULT_PERIOD_MIN * 60_000 if since is None else since, until)
        else:
            history = without(None)  # the document has the reason
        head = f'{{"now": {now:.1f}, "controls": {json.dumps(controls)}'
        return Response(
            f'{head}, "pool": {document.model_dump_json()}, "history": {history}}}',
            headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
            media_type="application/json",
        )

    @router.get("/leader/live/runs", include_in_schema=False)
    async def read_latest(job: Annotated[list[JobName], Query(max_length=MAX_ROWS_READ)]) -> Response:
        """Latest runs of a few jobs, whose rows can be seen. Belongs to the page as its data do."""
        if (absence := view.absence()) is not None:
            raise HTTPException(503, absence)
        return Response(
            await cache.latest(job),
            headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
            media_type="application/json",
        )

    return router


@functools.cache
def _page() -> tuple[bytes, str]:
    """The page, and the policy that allows its style and its script and nothing else."""
    files = resources.files(__package__) / "page"
    style = SPACED_IN_STYLE.sub(r"\1", _packed((files / "live.css").read_text("utf-8"))).replace(";}", "}")
    source = "".join((files / name).read_text("utf-8") for name in SCRIPTS)
    script = SPACED_IN_SCRIPT.sub(r"\1", _packed('"use strict";\n' + source))
    page = _packed((files / "live.html").read_text("utf-8")).replace("/*style*/", style).replace("/*script*/", script)
    policy = {
        "default-src": "'none'",
        "script-src": _hash(script),
        "style-src": _hash(style),
        "connect-src": "'self'",
        "img-src": "data:",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",  # nothing that came from outside can become markup
    }
    return page.encode(), "; ".join(f"{name} {value}" for name, value in policy.items())


def _packed(text: str) -> str:
    """Return the text without indentation, empty lines and comments."""
    lines = (COMMENT.sub("", line).strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
