"""A job to submit: its command, its environment, and the metadata that anybody may read."""

from __future__ import annotations

import os
import re
import secrets
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raffect import __version__
from raffect.context import STORE_VARIABLE
from raffect.environment import forwarded_variables, is_secret, refuse_logins
from raffect.errors import SettingsError

JOB_VARIABLE = "RAFFECT_JOB"
"""Tells the process of a job its id, which goes into the sweep's lease."""
BOARD_VARIABLE = "RAFFECT_BOARD"
MARK = "raffect"
"""The metadata key that marks a job as raffect's; its value is raffect's version."""
# Ray's default is SIGTERM and 3 s. On Ctrl-C a command ends in order, with its trials settled.
_STOP = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "30"}
# The command's own ray.init() sets some of the job's variables again: without this Ray refuses.
_MERGE = {"RAY_OVERRIDE_JOB_RUNTIME_ENV": "1"}


@dataclass(frozen=True)
class Submission:
    """A job to submit: what Ray runs, what its dashboard shows of it, and its environment.

    Attributes:
        variables: On top of the nodes'; no secrets, as Ray shows them.
    """

    id: str
    entrypoint: str
    metadata: dict[str, str]
    variables: dict[str, str]


def make_submission(
    arguments: Sequence[str], facts: Mapping[str, str], store: str, variables: Mapping[str, str]
) -> Submission:
    """Describe the job of a raffect command.

    Args:
        arguments: The command, without `raffect`, checked already.
        facts: What is known about it: `command` always, `task` and `sweep` for sweeps.
        store: URI.
        variables: Further variables of the job's environment.

    Raises:
        SettingsError: The endpoint has a password in it.
    """
    name = " ".join(dict.fromkeys(facts.values()))
    job_id = f"raffect-{re.sub('[^A-Za-z0-9]+', '-', name).strip('-')}-{secrets.token_hex(3)}"
    line = shlex.join(["raffect", *arguments])
    metadata = {"job_name": name, MARK: __version__, "line": line, "store": store, **facts}
    forwarded = forwarded_variables()
    return Submission(
        job_id,
        # exec: signals and exit codes are the command's own, not a shell's.
        f"exec python -m {line}",
        metadata,
        {**forwarded, STORE_VARIABLE: store, JOB_VARIABLE: job_id, **_STOP, **_MERGE, **variables},
    )


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
        if is_secret(name):
            raise SettingsError(
                f"--env {name} looks like a secret; Ray shows a job's environment to everybody"
                " who sees its dashboard.",
                "variables that are no secrets",
                "Give the cluster's nodes the secret: a role, a mounted file, a secret of theirs.",
            )
        found[name] = value if sign else os.environ[name]
    refuse_logins(found)
    return found
