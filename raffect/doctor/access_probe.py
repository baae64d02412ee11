"""A knock at a cluster's door, as oneself or as a stranger, before anything waits for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from raffect.doctor.facts import Knock
from raffect.doctor.findings import one_line
from raffect.doctor.timeouts import late
from raffect.engine import knock
from raffect.errors import SettingsError

SCRIPT = Path(__file__).with_name("access_script.py")
_TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


def refuse_job_server(address: str) -> None:
    """Refuse the address of a job server, where no driver can connect.

    Raises:
        SettingsError: It is one.
    """
    if address.startswith(("http://", "https://")):
        raise SettingsError(
            f"{address} is a job server, which runs commands on its cluster.",
            "the address of a Ray cluster: HOST:6379, or auto on one of its nodes",
            f"raffect submit --address {address} -- doctor",
        )


def knock_at(address: str, seconds: float, as_stranger: bool = False) -> Knock:
    """Ask a cluster for its versions, in a process of its own.

    Args:
        address: The cluster's.
        seconds: How long to wait.
        as_stranger: Come without a token.
    """
    try:
        knock(address)
    except OSError as error:
        return Knock("silent", one_line(error))
    environment = {**os.environ, "RAY_BACKEND_LOG_LEVEL": "fatal"}
    if as_stranger:
        environment = {k: v for k, v in environment.items() if k not in _TOKENS}
        environment["RAY_AUTH_MODE"] = "disabled"
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(SCRIPT), address],
            env=environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Knock("silent", late(seconds))
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return Knock("silent", one_line(_last_words(done)))
    return Knock(**{name: one_line(value) for name, value in found.items()})


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    """Why Ray's core ended the process: a failed check comes before a long stack trace."""
    _, _, reason = done.stderr.partition("Check failed: ")
    lines = (reason or done.stderr.strip()).splitlines()
    return (lines[0] if reason else lines[-1]) if lines else f"exit code {done.returncode}"
