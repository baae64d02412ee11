"""What raffect asks for, and the files that come with it: in a checkout, or where pip put them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shlex
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import raffect
from raffect.errors import NotThereError

CONSTRAINTS = "constraints.txt"
PROJECT = "pyproject.toml"
_SHARE = "share/raffect"


@dataclass(frozen=True)
class Declared:
    """Requirements as lines; with markers, where they are those of an installation.

    Attributes:
        extras: What each extra of raffect adds.
    """

    python: str
    lines: tuple[str, ...]
    extras: dict[str, tuple[str, ...]] = field(default_factory=dict)


def declared() -> Declared | None:
    """By the checkout that raffect is in, else by its installed metadata; None: by neither."""
    # A checkout's metadata is as old as its installation: the project file goes first.
    return _from_project(_root() / PROJECT) or _from_metadata()


def find_files() -> Path | None:
    """The folder of constraints.txt and `cluster/`; None where only the code is there."""
    if _from_project(_root() / PROJECT):
        return _root()
    try:
        installed = importlib.metadata.files("raffect") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    of = (file for file in installed if file.match(f"{_SHARE}/{CONSTRAINTS}"))
    folders = [Path(str(file.locate())).resolve().parent for file in of]
    # An archive of packages, as jobs unpack them, has the list of files and not the files.
    return next((folder for folder in folders if (folder / CONSTRAINTS).is_file()), None)


def require(extra: str, module: str, use: str) -> None:
    """See that a module of an extra is there.

    Args:
        use: What needs it, as the beginning of a sentence.

    Raises:
        NotThereError: It is not; the message has the command that installs the extra.
    """
    if importlib.util.find_spec(module) is None:
        raise NotThereError(
            f"{use} needs {module}, which is not installed.",
            f"an environment with raffect's extra [{extra}]",
            install_command(extra),
        )


def install_command(extra: str) -> str:
    """The command that adds an extra to this environment, in the tested versions."""
    known = declared()
    packages = known.extras.get(extra) if known else None
    where = find_files()
    pins = ["--constraint", str(where / CONSTRAINTS)] if where else []
    words = [sys.executable, "-m", "pip", "install", *pins, *(packages or [f"raffect[{extra}]"])]
    return shlex.join(words)


def _root() -> Path:
    return Path(raffect.__file__ or ".").parent.parent


def _from_project(path: Path) -> Declared | None:
    if not path.is_file():
        return None
    project = tomllib.loads(path.read_text(encoding="utf-8")).get("project", {})
    if project.get("name") != "raffect":
        return None
    extras = project.get("optional-dependencies", {})
    return Declared(
        project.get("requires-python", ""),
        tuple(project.get("dependencies", ())),
        {extra: tuple(lines) for extra, lines in extras.items()},
    )


def _from_metadata() -> Declared | None:
    from packaging.requirements import Requirement

    try:
        metadata = importlib.metadata.metadata("raffect")
    except importlib.metadata.PackageNotFoundError:
        return None
    lines = metadata.get_all("Requires-Dist") or []
    needed = [Requirement(line) for line in lines]
    extras = {
        extra: tuple(
            line.partition(";")[0].strip()
            for line, one in zip(lines, needed, strict=True)
            if one.marker and one.marker.evaluate({"extra": extra})
        )
        for extra in metadata.get_all("Provides-Extra") or []
    }
    return Declared(metadata["Requires-Python"] or "", tuple(lines), extras)
