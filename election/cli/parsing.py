"""The command line: each command with its options, its example and its function."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from election.core.distribution import DISTRIBUTION, installed_version
from election.schedule.ledger_reader import MAX_INTEGER

from . import commands, job_commands
from .completion import SHELLS, completion
from .doctor import doctor
from .migrate import migrate
from .status import jobs, status
from .watch import watch

EXAMPLES = """\
examples:
  {program} status --pool var/pool
  {program} watch --pool var/pool --tag billing
  {program} runs --pool var/pool --job app.jobs:report --outcome failed
  {program} verify --pool var/pool && echo all promises held

exit codes: 0 as it should be; 1 nobody leads (status), a promise was broken (verify, migrate), something is wrong
(doctor), the run did not succeed (run --wait); 2 the command itself could not do its work.
"""

POOL_VARIABLE = "ELECTION_POOL"
"""Environment variable that stands for ``--pool``, as for ``run.py``."""

JUDGING = {"status", "verify", "doctor"}
"""Commands whose exit code is a verdict."""

Command = Callable[[argparse.Namespace], Awaitable[int]]


def parser(program: str = "python -m election", *, directory: object = None) -> argparse.ArgumentParser:
    """The command line, with each command's options and its function.

    program: name of the program. directory: shtab's completion of ``--pool``.
    """
    parser = argparse.ArgumentParser(
        prog=program,
        description="Inspect and control a pool from outside.",
        epilog=EXAMPLES.format(program=program),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{DISTRIBUTION} {installed_version()}")
    commands_of = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Command, text: str, *examples: str) -> argparse.ArgumentParser:
        added = commands_of.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog="\n".join(["examples:", *(f"  {program} {name} {example}" for example in examples)]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(command=command, judges=name in JUDGING)
        return added

    def add_for_pool(
        name: str, command: Command, text: str, *examples: str, json: str = "for machines"
    ) -> argparse.ArgumentParser:
        examples = tuple(f"--pool var/pool{example}" for example in examples)
        added = add(name, command, text, *examples)
        given = os.environ.get(POOL_VARIABLE) or None
        about = f"the pool's directory or URL; by default ${POOL_VARIABLE}"
        pool = added.add_argument("--pool", required=given is None, default=given, metavar="POOL", help=about)
        pool.complete = directory  # type: ignore[attr-defined]  # where shtab looks
        added.add_argument(
            "--ledger", metavar="URL", help="URL of the ledger, if a pool on Redis keeps it in PostgreSQL"
        )
        added.add_argument("--json", action="store_true", help=json)
        return added

    def add_changing(name: str, command: Command, text: str, *examples: str) -> argparse.ArgumentParser:
        added = add_for_pool(name, command, text, *examples)
        added.add_argument("--by", metavar="NAME", help="your name, for election changes; by default user@host")
        return added

    _add_tag(
        add_for_pool(
            "status", status, "who leads, which workers there are, what the jobs do", "", " --json | jq .leader.pid"
        )
    )
    watching = add_for_pool(
        "watch", watch, "status as a live table, with the last runs and takeovers; q ends it",
        "", " --tag billing", " --json >> changes", json="a line for each change, for machines",
    )  # fmt: skip
    _add_tag(watching)
    watching.add_argument("--once", action="store_true", help="print the table once, and end")
    all_jobs = "the jobs by id, also of a pool that has more than status shows"
    _add_search(add_for_pool("jobs", jobs, all_jobs, "", " --search invoice", " --limit 1000 --after app.jobs:report"))
    _add_history_commands(add_for_pool)
    add_for_pool(
        "verify", commands.verify, "whether the recorded history keeps the promises P1 to P4, and max_instances (P9)",
        " && echo all promises held",
    )  # fmt: skip
    add_for_pool("doctor", doctor, "check the pool's directory or server, and show what to do", "", " --json")
    _add_job_commands(add_for_pool, add_changing)
    add_changing("resign", commands.resign, "request that the leader drains its jobs and gives the seat up", "")
    accepting = "after a wall clock was ahead: let the jobs that it held back go on from now, by this machine's clock"
    add_changing("accept-time", commands.accept_time, accepting, "")
    adopting = "declare a copied or restored ledger the original; owed ticks are run if no worker has led it"
    add_changing("adopt", commands.adopt, adopting, "")
    _add_other_commands(add)
    return parser


def _add_history_commands(add_for_pool: Callable[..., argparse.ArgumentParser]) -> None:
    """The commands that read the history and the coming ticks."""

    def add_pages(name: str, command: Command, text: str, *examples: str) -> argparse.ArgumentParser:
        added = add_for_pool(name, command, text, *examples)
        added.add_argument(
            "--limit", type=_number, metavar="N", help="number of entries at most (20; with --since, all)"
        )
        added.add_argument("--before", type=_number, metavar="N", help="only entries before this number")
        added.add_argument(
            "--since", type=_moment, metavar="TIME", help="only since this time, as ISO 8601; local without offset"
        )
        return added

    def add_filters(added: argparse.ArgumentParser) -> None:
        added.add_argument("--job", metavar="ID", help="only this job's")
        _add_tag(added)

    runs = add_pages("runs", commands.runs, "what was run, latest first", " --outcome failed", " --id 17")
    runs.add_argument("--id", type=_number, metavar="SEQ", help="this run, with its tracebacks and log lines")
    logs = "what the latest runs logged, with their tracebacks, latest last"
    logging = add_pages("logs", commands.logs, logs, " --job app.jobs:report", " --outcome failed --limit 3")
    for each in (runs, logging):
        each.add_argument("--outcome", choices=("running", "succeeded", "failed", "interrupted"))
        add_filters(each)
    coming = add_for_pool(
        "next", commands.coming, "the coming ticks of all jobs, in order", "", " --job app.jobs:report -n 3",
        " --until 2027-03-29T12:00+02:00 --json",
    )  # fmt: skip
    coming.add_argument("-n", "--limit", type=_number, default=10, metavar="N", help="number of ticks at most (10)")
    coming.add_argument(
        "--until", type=_moment, metavar="TIME", help="up to this time, as ISO 8601; local without offset"
    )
    coming.add_argument("--job", metavar="ID", help="only this job's")
    skips = "which ticks had no run, and why, latest first"
    add_filters(add_pages("skips", commands.skips, skips, " --job app.jobs:report --limit 100"))
    changes = add_pages("changes", commands.changes, "who changed what, latest first", " --job app.jobs:report")
    changes.add_argument("--job", metavar="ID", help="only this job's")
    add_pages("terms", commands.terms, "who led when, latest first", " --limit 5")


def _add_other_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """The commands that take no ``--pool``."""
    moving = add(
        "migrate", migrate, "copy a stopped pool's history to another engine, and compare each row; goes on if cut off",
        "var/pool postgresql://app@db/app",
    )  # fmt: skip
    for name, place in (("source", "from"), ("target", "to")):
        moving.add_argument(name, metavar=place.upper(), help=f"the directory or URL to move {place}")
    moving.add_argument("--json", action="store_true", help="for machines")
    scripts = add(
        "completion", completion, "print the script by which a shell completes the command election",
        "bash > ~/.local/share/bash-completion/completions/election",
        "zsh > ~/.zfunc/_election",
        "fish > ~/.config/fish/completions/election.fish",
    )  # fmt: skip
    scripts.add_argument("shell", choices=SHELLS)


def _add_job_commands(
    add_for_pool: Callable[..., argparse.ArgumentParser], add_changing: Callable[..., argparse.ArgumentParser]
) -> None:
    """The commands about one job."""
    job = " app.jobs:report"
    showing = add_for_pool("job", job_commands.show_job, "one job: its state, latest runs and coming ticks", job)
    pausing = "skip a job's ticks until it is resumed, also after a restart"
    resuming = "end a pause; what fell due meanwhile is skipped"
    for each in (
        add_changing("pause", job_commands.pause, pausing, job, " --tag billing"),
        add_changing("resume", job_commands.resume, resuming, job, " --tag billing"),
    ):
        each.add_argument("job", metavar="ID", nargs="?", help="the job's id")
        each.add_argument("--tag", metavar="TAG", help="all jobs with this tag instead")
    running = add_changing(
        "run", job_commands.run_now, "request a run of a job now, besides its schedule",
        job, f"{job} --kwargs '{{\"day\": \"mon\"}}' --wait 60",
    )  # fmt: skip
    running.add_argument("--kwargs", type=_arguments, metavar="JSON", help="arguments of this run, by name")
    running.add_argument(
        "--wait", type=float, metavar="S", help="wait S seconds for its end; exits with 1 unless it succeeds"
    )
    for each in (showing, running):
        each.add_argument("job", metavar="ID", help="the job's id")


def _add_search(added: argparse.ArgumentParser) -> None:
    added.add_argument("--search", default="", metavar="TEXT", help="only jobs whose id or name contains this")
    _add_tag(added)
    added.add_argument("--after", default="", metavar="ID", help="only jobs with larger ids")
    added.add_argument("--limit", type=_number, default=100, metavar="N", help="number of jobs at most (100)")


def _add_tag(added: argparse.ArgumentParser) -> None:
    added.add_argument("--tag", metavar="TAG", help="only jobs with this tag")


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 2027-03-29T12:00+02:00") from error


def _arguments(text: str) -> dict[str, object]:
    try:
        given = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON: {error}") from error
    if not isinstance(given, dict):
        raise argparse.ArgumentTypeError(f'{text!r} is no JSON object, such as {{"day": "mon"}}')
    return given


def _number(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_INTEGER:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)
