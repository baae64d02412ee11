"""A job as it is ordered: its name, what it is told, and what everybody may read about it."""

from __future__ import annotations

import os
import re
import secrets
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raffect import __version__
from raffect.context import STORE_VARIABLE
from raffect.errors import SettingsError
from raffect.store import Store
from raffect.store.filesystem import worker_environment

JOB_VARIABLE = "RAFFECT_JOB"
"""Names the job to the process that it runs, and so to the sweep's lease."""
BOARD_VARIABLE = "RAFFECT_BOARD"
MARK = "raffect"
"""The key of a job's metadata that makes it one of raffect's: its version."""
LIVE = "live"
"""The key of what `submit` and `follow` show of a sweep that runs (progress.Glance)."""
_SECRET = re.compile(r"secret|passw|token|credential|(^|_)key|key(_id)?$", re.IGNORECASE)
# Ray's own stop is SIGTERM and 3 s; a command ends in order on Ctrl-C, with its trials settled.
_STOP = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "30"}
# The command's own ray.init() names the same variables again, with the same values.
_MERGE = {"RAY_OVERRIDE_JOB_RUNTIME_ENV": "1"}


@dataclass(frozen=True)
class Order:
    """A job to be submitted.

    Attributes:
        id: Its id, made of what it does.
        entrypoint: The shell command.
        metadata: What Ray's dashboard shows of it.
        variables: Its environment beyond the nodes' own; no secrets, Ray shows them.
    """

    id: str
    entrypoint: str
    metadata: dict[str, str]
    variables: dict[str, str]


def make_order(
    arguments: Sequence[str],
    facts: Mapping[str, str],
    store: str,
    variables: Mapping[str, str],
) -> Order:
    """Order a raffect command.

    Args:
        arguments: The command, without `raffect`, checked already.
        facts: What is known about it: `command` always, `task` and `sweep` for sweeps.
        store: The store's URI.
        variables: Further variables of the job's environment.

    Raises:
        SettingsError: The endpoint has a password in it.
    """
    name = " ".join(dict.fromkeys(facts.values()))
    number = f"raffect-{re.sub('[^A-Za-z0-9]+', '-', name).strip('-')}-{secrets.token_hex(3)}"
    line = shlex.join(["raffect", *arguments])
    metadata = {"job_name": name, MARK: __version__, "line": line, "store": store, **facts}
    forwarded = worker_environment()
    check_plain(forwarded)
    return Order(
        number,
        # exec: signals and exit codes are the command's own, not a shell's.
        f"exec python -m {line}",
        metadata,
        {**forwarded, STORE_VARIABLE: store, JOB_VARIABLE: number, **_STOP, **_MERGE, **variables},
    )


def store_uri(given: str | None) -> str:
    """The store as the cluster is to find it: a folder by its whole path."""
    return Store.open(given).uri


def parse_variables(given: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE`, or `NAME` for the value that it has here.

    Raises:
        SettingsError: Not set here, or named like a secret.
    """
    found = {}
    for one in given:
        name, sign, value = one.partition("=")
        if not sign and name not in os.environ:
            raise SettingsError(
                f"--env {name}: it is not set here.", "NAME=VALUE, or the name of one that is"
            )
        if _SECRET.search(name):
            raise SettingsError(
                f"--env {name} looks like a secret; Ray shows a job's environment to everybody"
                " who sees its dashboard.",
                "variables that are no secrets",
                "Give the cluster's nodes the secret: a role, a mounted file, a secret of theirs.",
            )
        found[name] = value if sign else os.environ[name]
    check_plain(found)
    return found


def check_plain(variables: Mapping[str, str]) -> None:
    """Refuse addresses with a password in them.

    Raises:
        SettingsError: There is one.
    """
    for name, value in variables.items():
        if re.search(r"://[^/\s]*@", value):
            raise SettingsError(
                f"{name} has a user or a password in its address; it would be shown with the job.",
                "an address without them",
                "Leave them out; give the cluster's nodes credentials of their own.",
            )
