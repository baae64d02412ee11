"""What is asked of a node before anything else; runs there by value, also without raffect.

Nothing of raffect and no package beyond the standard library may be needed here at import.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def describe_code() -> dict[str, Any]:
    """The fields of `facts.Code` for this process."""
    packages: dict[str, str] = {}
    for found in importlib.metadata.distributions():
        name = re.sub(r"[-_.]+", "-", found.metadata["Name"] or "").lower()
        # What is first on the path is what is imported.
        packages.setdefault(name, found.version)
    try:
        import raffect
    except Exception:
        version, digest = None, ""
    else:
        version = getattr(raffect, "__version__", None)
        digest = digest_sources(Path(raffect.__file__).parent) if raffect.__file__ else ""
    return {
        "python": platform.python_version(),
        "raffect": version,
        "digest": digest,
        "packages": packages,
    }


def digest_sources(folder: Path) -> str:
    """SHA-256 of the Python files below a folder, and of their names."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


class Witness:
    """An actor on a node that says what it sees there."""

    def code(self) -> dict[str, Any]:
        """What would run there."""
        return describe_code()

    def now(self) -> float:
        """The time there, in seconds."""
        return time.time()

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call one of raffect's functions there."""
        return function(*arguments)
