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
import zlib
from collections.abc import Mapping
from importlib import resources
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import StringConstraints

from .history_cache import HistoryCache, without
from .history_counts import Days, HistoryCounts
from .packing import pack_document, pack_script, pack_style
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
    "counts.js",
    "main.js",
)
"""The parts of the page's script, in their order: each uses those before it."""

GZIP = 31
"""``wbits`` of zlib for the format of gzip."""

TAKES_GZIP = re.compile(r"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))")
"""Matches an ``Accept-Encoding`` of a client that takes gzip."""

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
    counts = HistoryCounts(view)
    page, packed_page, policy = _page()
    headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}

    @router.get("/leader/live", response_class=Response, responses={200: {"content": {"text/html": {}}}})
    async def read_page(request: Request) -> Response:
        """The live page."""
        return _response(request, page, "text/html", headers, packed=packed_page)

    @router.get("/leader/live/data", include_in_schema=False)
    async def read_data(
        request: Request, since: Moment = None, until: Moment = None, known: int | None = None
    ) -> Response:
        """Data of the page. Belongs to the page of the same version, and may change with it.

        known: checksum of the jobs that the page has; if they are the same, the answer leaves them out.
        """
        document = await view.document()
        jobs, pool = document.model_dump_json(include={"jobs"}), document.model_dump_json(exclude={"jobs"})
        checksum = zlib.crc32(jobs.encode())
        if checksum != known:
            pool = f"{pool[:-1]}, {jobs[1:]}"
        now = view.clock.now().timestamp() * 1000
        if view.absence() is None:
            history = await cache.between(round(now) - DEFAULT_PERIOD_MIN * 60_000 if since is None else since, until)
        else:
            history = without(None)  # the document has the reason
        head = f'{{"now": {now:.1f}, "controls": {json.dumps(controls)}, "checksum": {checksum}'
        return _response(request, f'{head}, "pool": {pool}, "history": {history}}}'.encode())

    @router.get("/leader/live/runs", include_in_schema=False)
    async def read_latest(request: Request, job: Annotated[list[JobName], Query(max_length=MAX_ROWS_READ)]) -> Response:
        """Latest runs of a few jobs, whose rows can be seen. Belongs to the page as its data do."""
        if (absence := view.absence()) is not None:
            raise HTTPException(503, absence)
        return _response(request, (await cache.latest(job)).encode())

    @router.get("/leader/live/counts", include_in_schema=False)
    async def read_counts(request: Request, days: Days) -> Response:
        """Counts of the last day or week. Belongs to the page as its data do."""
        if (absence := view.absence()) is not None:
            raise HTTPException(503, absence)
        return _response(request, (await counts.latest(days)).encode())

    return router


def _response(
    request: Request,
    body: bytes,
    media_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
    *,
    packed: bytes | None = None,
) -> Response:
    """Response that no cache keeps: a page could not read the data of another version. Compressed if the client may."""
    every = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Vary": "Accept-Encoding"}
    if TAKES_GZIP.search(request.headers.get("Accept-Encoding", "")):
        body = packed or zlib.compress(body, level=1, wbits=GZIP)
        every["Content-Encoding"] = "gzip"
    return Response(body, headers={**every, **(headers or {})}, media_type=media_type)


@functools.cache
def _page() -> tuple[bytes, bytes, str]:
    """The page, the same compressed, and the policy that allows its style and its script and nothing else."""
    files = resources.files(__package__) / "page"
    style = pack_style((files / "live.css").read_text("utf-8"))
    script = pack_script('"use strict";\n' + "".join((files / name).read_text("utf-8") for name in SCRIPTS))
    page = pack_document((files / "live.html").read_text("utf-8"))
    page = page.replace("/*style*/", style).replace("/*script*/", script)
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
    policies = "; ".join(f"{name} {value}" for name, value in policy.items())
    return page.encode(), zlib.compress(page.encode(), wbits=GZIP), policies


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
