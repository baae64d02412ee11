"""The actor that the doctor starts on each node.

It is pickled by value, so that it runs where raffect is missing or another version: nothing of
raffect and nothing beyond the standard library may be imported at the top of this file.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict, TypeVar

T = TypeVar("T")


class Code(TypedDict):
    """The code that a process would run; a plain dictionary, as it comes from any raffect.

    Attributes:
        raffect: Its version; None where it can't be imported.
        digest: Of raffect's source: many states of a checkout share one version.
        packages: Versions of the installed packages by normalised name.
    """

    python: str
    raffect: str | None
    digest: str
    packages: dict[str, str]


def describe_code() -> Code:
    """The code of this process."""
    packages: dict[str, str] = {}
    for found in importlib.metadata.distributions():
        # The first on the path is the one that is imported.
        packages.setdefault(normalised(found.metadata["Name"] or ""), found.version)
    try:
        import raffect
    except Exception:
        version, digest = None, ""
    else:
        version = getattr(raffect, "__version__", None)
        digest = digest_sources(Path(raffect.__file__).parent) if raffect.__file__ else ""
    python = platform.python_version()
    return {"python": python, "raffect": version, "digest": digest, "packages": packages}


def normalised(name: str) -> str:
    """A package's name in the one spelling of PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def digest_sources(folder: Path) -> str:
    """SHA-256 of the Python files below a folder, and of their names."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


class NodeActor:
    """Answers for its node."""

    def code(self) -> Code:
        """The code there."""
        return describe_code()

    def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a function that can be imported there."""
        return function(*arguments)
