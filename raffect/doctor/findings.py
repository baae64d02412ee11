"""What the doctor reports: one finding per check and place, without secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

HIDDEN = "***"
_SECRET = re.compile(r"SECRET|TOKEN|PASSW|CREDENTIAL|ACCESS_KEY|API_KEY|PRIVATE", re.IGNORECASE)
_ELSEWHERE = ("_PATH", "_FILE", "_URI", "_URL")
"""Variables with such names say where a secret is kept; they hold none."""
_USERINFO = re.compile(r"(?<=//)[^/@\s'\"]+@")


class State(StrEnum):
    """How a check ended; warn: it works, but badly or not for long."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """The result of one check at one place; `next_step` is empty for a pass."""

    check: str
    state: State
    found: str
    next_step: str = ""
    place: str = ""


def passed(check: str, found: str) -> Finding:
    """Nothing is wrong."""
    return Finding(check, State.PASS, found)


def warned(check: str, found: str, next_step: str) -> Finding:
    """Runs will be slow, short-lived or open to others."""
    return Finding(check, State.WARN, found, next_step)


def failed(check: str, found: str, next_step: str) -> Finding:
    """Runs can't work."""
    return Finding(check, State.FAIL, found, next_step)


def at(place: str, findings: Iterable[Finding]) -> list[Finding]:
    """The findings with their place."""
    return [replace(finding, place=place) for finding in findings]


def redact(text: str, environment: Mapping[str, str] | None = None) -> str:
    """The text without the environment's secrets, and without the user and password of any URL."""
    variables = os.environ if environment is None else environment
    # Values of fewer characters may well be ordinary words of a text.
    secrets = {
        value
        for name, value in variables.items()
        if _SECRET.search(name) and not name.endswith(_ELSEWHERE) and len(value) >= 6
    }
    # The longest first: one secret may contain another.
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _USERINFO.sub(f"{HIDDEN}@", text)


def one_line(error: BaseException | str, most: int = 300) -> str:
    """An error as one line without secrets."""
    if isinstance(error, BaseException):
        error = f"{type(error).__name__}: {error}"
    line = redact(" ".join(error.split()))
    return line if len(line) <= most else line[: most - 1] + "…"
