"""``/kill``: a button that kills the leader with SIGKILL, for visitors of the demonstration on this machine only."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.background import BackgroundTask

from .loopback import is_loopback

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Kill the leader</title>
<style>body { font: 16px/1.5 system-ui, sans-serif; max-width: 34rem; margin: 3rem auto; padding: 0 1rem }</style>
<h1 id="who">Loading</h1>
<p>The button ends the leader as <code>kill -9</code> does. Another worker takes over within milliseconds, and Uvicorn
replaces the dead one. You come to the page that shows it.</p>
<form method="post" id="form"><button id="kill" disabled>Kill the leader</button></form>
<p><a href="leader/live">Only watch</a></p>
<script>
async function ask() {
  const { leader } = await (await fetch("leader", { cache: "no-store" })).json();
  const words = leader ? `Worker ${leader.pid} leads, in term ${leader.term}` : "Nobody leads";
  document.getElementById("who").textContent = words;
  document.getElementById("form").action = `kill?pid=${leader?.pid}&host=${encodeURIComponent(leader?.host)}`;
  document.getElementById("kill").disabled = !leader;
}
setInterval(() => ask().catch(() => {}), 1000);
ask();
</script>
</html>
"""

router = APIRouter(include_in_schema=False)


@router.get("/kill")
async def show_button() -> HTMLResponse:
    """The page with the button."""
    return HTMLResponse(PAGE, headers={"Cache-Control": "no-store", "X-Frame-Options": "DENY"})


@router.post("/kill")
def kill(request: Request, pid: Annotated[int, Query(gt=1)], host: str) -> RedirectResponse:
    """Kill a worker of this server, as soon as the browser has been sent to the live page."""
    is_local = request.client is not None and is_loopback(request.client.host)
    if not is_local or not _is_from_here(request):
        raise HTTPException(403, "only this page, opened on the machine itself, may do that")
    if host != socket.gethostname() or (pid != os.getpid() and _facts(pid) != _facts(os.getpid())):
        raise HTTPException(404, f"process {pid} on {host} is no worker of this server")
    return RedirectResponse("leader/live", status_code=303, background=BackgroundTask(_kill, pid))


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has died meanwhile
        os.kill(pid, signal.SIGKILL)


def _is_from_here(request: Request) -> bool:
    """Whether a page of this server, opened under a name of this machine only, has sent the request."""
    try:
        origin = urlsplit(request.headers.get("origin", ""))
        return is_loopback(origin.hostname or "") and origin.netloc == request.headers.get("host")
    except ValueError:
        return False


def _facts(pid: int) -> tuple[str, str] | None:
    """Parent and command of a process without its numbers: those of all workers of a server are the same."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        command = Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[1], re.sub(r"\d+", "", command)
