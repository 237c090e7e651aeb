"""``GET /leader/live``: a page that shows the activity of the pool, from any worker, and the document that it draws.

The page is one answer, so that it is complete even if the worker that served it is dead a moment later; afterwards it
uses any worker that answers. It polls, with requests that end at once, and so never keeps a worker from stopping.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from importlib import resources
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from .history_cache import HistoryCache, without
from .view import PoolView

SCRIPTS = (
    "words.js",
    "state.js",
    "marks.js",
    "picture.js",
    "pointing.js",
    "tables.js",
    "control.js",
    "run.js",
    "main.js",
)
"""The parts of the page's script, in their order: each uses those before it."""

MAX_MOMENT_MS = 253_402_300_799_000
"""The last moment of the year 9999, in milliseconds since the epoch."""

DEFAULT_PERIOD_MIN = 5
"""Default period of the picture, in minutes."""

ControlKind = Literal["token", "application"] | None
"""Authentication of the routes that change something: by the token or by the application; None without such routes."""

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

    return router


@functools.cache
def _page() -> tuple[bytes, str]:
    """The page, and the policy that allows its style and its script and nothing else."""
    files = resources.files(__package__) / "page"
    style = _packed((files / "live.css").read_text("utf-8"))
    script = _packed('"use strict";\n' + "".join((files / name).read_text("utf-8") for name in SCRIPTS))
    page = (files / "live.html").read_text("utf-8").replace("/*style*/", style).replace("/*script*/", script)
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
    """Return the text without indentation, empty lines and comment lines, which are a fifth of it."""
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//"))


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
