"""What the doctor says: one finding per check and place."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum


class State(StrEnum):
    """How a check ended."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One check's result.

    Attributes:
        check: What was checked.
        state: Pass; warn: it works, badly or not for long; fail: it does not work.
        found: What was found.
        next_step: What to do; empty for a pass.
        place: The node, or the driver, or the cluster as a whole.
    """

    check: str
    state: State
    found: str
    next_step: str = ""
    place: str = ""


def passed(check: str, found: str) -> Finding:
    """A check that found nothing wrong."""
    return Finding(check, State.PASS, found)


def warned(check: str, found: str, next_step: str) -> Finding:
    """A check that found what makes runs slow, short-lived or open to others."""
    return Finding(check, State.WARN, found, next_step)


def failed(check: str, found: str, next_step: str) -> Finding:
    """A check that found what keeps runs from working."""
    return Finding(check, State.FAIL, found, next_step)


def at(place: str, findings: Iterable[Finding]) -> list[Finding]:
    """The findings, said of a place."""
    return [replace(finding, place=place) for finding in findings]


HIDDEN = "***"
_NAME = re.compile(r"SECRET|TOKEN|PASSW|CREDENTIAL|ACCESS_KEY|API_KEY|PRIVATE", re.IGNORECASE)
_ELSEWHERE = ("_PATH", "_FILE", "_URI", "_URL")
"""Variables with such names say where a secret lies; they hold none."""
_USERINFO = re.compile(r"(?<=//)[^/@\s'\"]+@")
_SHORTEST = 6
"""Shorter values are words that a text may well hold."""


def redact(text: str, environment: Mapping[str, str] | None = None) -> str:
    """The text without the secrets of the environment, and without any URL's user and password.

    Args:
        text: Any text.
        environment: Variables; None means this process's.
    """
    variables = os.environ if environment is None else environment
    secrets = {
        value
        for name, value in variables.items()
        if _NAME.search(name) and not name.endswith(_ELSEWHERE) and len(value) >= _SHORTEST
    }
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _USERINFO.sub(f"{HIDDEN}@", text)


def one_line(error: BaseException | str, most: int = 300) -> str:
    """An error as one line without secrets."""
    if isinstance(error, BaseException):
        error = f"{type(error).__name__}: {error}"
    line = redact(" ".join(error.split()))
    return line if len(line) <= most else line[: most - 1] + "…"
