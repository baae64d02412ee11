"""Settings of a command: defaults, then the YAML file, then options, then `--set`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raffect.config import C, flatten, override, parse_assignments, read_yaml


def settings(base: C, file: Path | None, changes: list[str] | None, options: dict[str, Any]) -> C:
    """The settings that a user asked for.

    Raises:
        SettingsError: Everything that is wrong with them, listed at once.
    """
    tree = flatten(read_yaml(file)) if file is not None else {}
    return override(base, {**tree, **options, **parse_assignments(changes or [])})
