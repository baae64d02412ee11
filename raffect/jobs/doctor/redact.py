"""No secret leaves: the last thing that happens to every text before it is shown or sent."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

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
