"""submit, jobs: commands that run on a Ray cluster and are followed from here."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raffect import interrupts
from raffect.cli.ablate import ablation_name
from raffect.cli.options import JsonOption, QuietOption, StoreOption, begin
from raffect.cli.screen import Screen
from raffect.errors import SettingsError

if TYPE_CHECKING:
    from raffect.jobs.client import Job, JobServer

# These would serve a page on the cluster's loopback, submit again, or train on synthetic data.
NOT_SUBMITTED = ("submit", "jobs", "dashboard", "board", "demo", "synth")
JobServerOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="URL",
        help="URL of the cluster's dashboard, e.g. http://127.0.0.1:8265.",
        show_default="$RAY_API_SERVER_ADDRESS, $RAY_ADDRESS",
    ),
]
JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="Id of the job, as listed by `raffect jobs`.")
]


def submit(
    context: typer.Context,
    command: Annotated[
        list[str],
        typer.Argument(
            metavar="-- COMMAND", help="A raffect command, e.g. -- tune va --trials 50"
        ),
    ],
    address: JobServerOption = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Follow the job's log, or return at once.")
    ] = True,
    env: Annotated[
        list[str] | None,
        typer.Option(
            "--env",
            metavar="NAME[=VALUE]",
            help="Environment variable for the job; may be repeated.",
        ),
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run a raffect command on a Ray cluster. Ships the code, never data."""
    from raffect.jobs.package import named_code, pack
    from raffect.jobs.submission import make_submission, parse_variables

    name, params = parse_command(context.find_root().command, command)
    facts = {"command": name}
    if name == "tune":
        facts["task"] = " ".join(params["task"])
        # Of several, the job says which one runs.
        if len(params["task"]) == 1:
            facts["sweep"] = str(params.get("branch") or params.get("name") or facts["task"])
    elif params.get("task"):
        facts["task"] = str(params["task"])
    if name == "ablate":
        facts["sweep"] = str(params.get("name") or ablation_name(str(params["task"])))
    target, screen = begin(params.get("store") or store, quiet, as_json, may_be_new=True)
    here = Path.cwd()
    package = pack(here, named_code(here, [params.get("space"), params.get("config")]))
    variables = parse_variables(env or [])
    submission = make_submission(without_store(command), facts, target.uri, variables)

    # Loads Ray: after all that can be wrong with the command.
    from raffect.jobs.client import JobServer

    server = JobServer(address)
    server.submit(submission, package)
    for line in package.describe_left_out():
        screen.note(line)
    screen.styled(f"[dim]… Shipped {len(package.files)} files, {package.size / 2**20:.1f} MiB.[/]")
    screen.path(f"{submission.metadata['job_name']}: job {submission.id}")
    screen.path(f"Ray dashboard: {server.address}/#/jobs/{submission.id}")
    if wait:
        _finish(screen, server, submission.id, as_json)
    elif as_json:
        screen.json({"id": submission.id, "status": "PENDING", "exit_code": None})


def parse_command(group: Any, arguments: list[str]) -> tuple[str, dict[str, Any]]:
    """Parse a raffect command without running it; returns its name and its options.

    Args:
        group: typer's group of all commands.
        arguments: The command, with or without `raffect` before it.

    Raises:
        SettingsError: It is not one that a cluster can run.
        typer.TyperException: The command would not accept these options.
    """
    words = _without_program(arguments)
    name = words[0] if words else ""
    known = sorted(set(group.commands) - set(NOT_SUBMITTED))
    if name not in known:
        raise SettingsError(
            f"{name!r} is not a command that can be submitted.",
            ", ".join(known),
            "Give it after --, e.g. raffect submit -- tune va --trials 50",
        )
    command, words = group.commands[name], words[1:]
    if words and words[0] in (verbs := getattr(command, "commands", {})):
        command, words = verbs[words[0]], words[1:]
    return name, dict(command.make_context(f"raffect {name}", words).params)


def without_store(arguments: list[str]) -> list[str]:
    """The command without `--store`, which the job gets as an absolute URI in its environment."""
    kept: list[str] = []
    words = iter(_without_program(arguments))
    for word in words:
        if word == "--store":
            next(words, None)
        elif not word.startswith("--store="):
            kept.append(word)
    return kept


def _without_program(arguments: list[str]) -> list[str]:
    return arguments[1:] if arguments[0] == "raffect" else arguments


def list_unless_told(
    context: typer.Context,
    address: JobServerOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """List raffect's jobs with their best score so far."""
    if context.invoked_subcommand is None:
        list_jobs(address, as_json, quiet)


def list_jobs(
    address: JobServerOption = None, as_json: JsonOption = False, quiet: QuietOption = False
) -> None:
    """List raffect's jobs with their best score so far, as `raffect jobs` does."""
    server, screen = _connect(address, quiet, as_json)
    found = server.jobs()
    if as_json:
        screen.json([_facts(job) for job in found])
    elif not found:
        screen.say("No raffect jobs. Submit one: raffect submit -- tune va")
    else:
        columns = ["job", "state", ">hours", "trials", "best"]
        screen.table(columns, [_row(job) for job in found])


def follow(
    job: JobArgument,
    address: JobServerOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Follow a job's log from its beginning, and exit with its exit code."""
    server, screen = _connect(address, quiet, as_json)
    server.job(job)
    _finish(screen, server, job, as_json)


def stop(job: JobArgument, address: JobServerOption = None, quiet: QuietOption = False) -> None:
    """Stop a job cleanly. Submitted again, the same command continues."""
    server, screen = _connect(address, quiet)
    if server.stop(job):
        _stopped(screen, server, job)
    else:
        screen.path(f"Job {job} has ended already: {server.job(job).status}.")


def _connect(address: str | None, quiet: bool, as_json: bool = False) -> tuple[JobServer, Screen]:
    from raffect.jobs.client import JobServer

    return JobServer(address), Screen(quiet, as_json)


def _finish(screen: Screen, server: JobServer, job_id: str, as_json: bool) -> None:
    """Follow a job to its end, and exit with its code."""
    from raffect.cli.follow import JobView

    try:
        with interrupts.silent(), JobView(screen, server, job_id) as view:
            job = server.follow(job_id, view.text)
    except KeyboardInterrupt:
        if not interrupts.by_ctrl_c():
            _detached(screen, job_id)
            sys.exit(interrupts.exit_code())
        job = _ask(screen, server, job_id)
    if as_json:
        screen.json(_facts(job))
    if job.is_over and job.status not in ("SUCCEEDED", "STOPPED"):
        screen.path(f"Job {job_id} failed. {job.message}".rstrip())
    # Not typer.Exit: with it a stopped job would look like Ctrl-C on this command.
    sys.exit(job.code if job.is_over else 0)


def _ask(screen: Screen, server: JobServer, job_id: str) -> Job:
    """Ask what Ctrl-C is to do: detach from the job, which is the default, or stop it."""
    choice = "d"
    if sys.stdin.isatty():
        with suppress(typer.Abort, KeyboardInterrupt):
            question = "\nThe job is still running. [d]etach from it, or [s]top it?"
            choice = typer.prompt(question, default="d", show_default=True).strip().lower()
    if choice.startswith("s"):
        server.stop(job_id)
        return _stopped(screen, server, job_id)
    _detached(screen, job_id)
    return server.job(job_id)


def _detached(screen: Screen, job_id: str) -> None:
    screen.path(f"\nDetached; the job goes on. To reattach:\n  raffect jobs follow {job_id}")
    screen.path(f"To stop it:\n  raffect jobs stop {job_id}")


def _stopped(screen: Screen, server: JobServer, job_id: str) -> Job:
    """Wait for the end of a job that was told to stop."""
    job = server.wait(job_id)
    screen.path(f"Job {job_id} is {job.status}. Submitted again, its command continues.")
    return job


def _row(job: Job) -> list[str]:
    hours = _facts(job)["hours"]
    told = [job.metadata.get(name, "") for name in ("trials", "best")]
    return [job.id, job.status, "" if hours is None else f"{hours:.2f}", *told]


def _facts(job: Job) -> dict[str, Any]:
    hours = None
    if job.started is not None:
        hours = round(((job.ended or time.time()) - job.started) / 3600, 4)
    return {
        "id": job.id,
        "status": job.status,
        "exit_code": job.code if job.is_over else None,
        "hours": hours,
        "metadata": job.metadata,
    }
