"""The versions that raffect wants, from wherever this raffect came."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import raffect

CONSTRAINTS = "constraints.txt"
_PIN = re.compile(r"([A-Za-z0-9._-]+)\s*==\s*([^\s;#]+)")


@dataclass(frozen=True)
class Wanted:
    """What should be installed.

    Attributes:
        python: Versions of Python that will do.
        requirements: What raffect depends on; empty where that is not known.
        pins: The versions that raffect is tested with; empty without a constraints.txt.
        pins_from: The file that says so.
    """

    python: SpecifierSet
    requirements: tuple[Requirement, ...]
    pins: Mapping[str, str]
    pins_from: str = ""


def find_wanted() -> Wanted:
    """What this raffect wants: by the checkout it lies in, else by its installed metadata."""
    checkout = Path(raffect.__file__ or ".").parent.parent
    # Metadata of a checkout are as old as its installation.
    python, lines = _from_project(checkout / "pyproject.toml") or _from_metadata() or ("", [])
    requirements = [Requirement(line) for line in lines]
    needed = [
        one for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})
    ]
    pins, file = _find_pins([checkout / CONSTRAINTS, Path(CONSTRAINTS)])
    return Wanted(
        SpecifierSet(python),
        tuple(needed),
        pins,
        file,
    )


def read_pins(text: str) -> dict[str, str]:
    """Normalised names and versions of a constraints file; other lines are left out."""
    found = (_PIN.match(line.strip()) for line in text.splitlines())
    return {normalised(match[1]): match[2] for match in found if match}


def normalised(name: str) -> str:
    """A package's name as the packages of `facts.Code` have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _find_pins(files: list[Path]) -> tuple[Mapping[str, str], str]:
    for file in files:
        pins = read_pins(file.read_text(encoding="utf-8")) if file.is_file() else {}
        # The working folder may be that of another project.
        if "ray" in pins:
            return pins, str(file)
    return {}, ""


def _from_metadata() -> tuple[str, list[str]] | None:
    try:
        metadata: Any = importlib.metadata.metadata("raffect")
    except importlib.metadata.PackageNotFoundError:
        return None
    return metadata.get("Requires-Python") or "", metadata.get_all("Requires-Dist") or []


def _from_project(path: Path) -> tuple[str, list[str]] | None:
    if not path.is_file():
        return None
    project = tomllib.loads(path.read_text(encoding="utf-8")).get("project", {})
    if project.get("name") != "raffect":
        return None
    return project.get("requires-python", ""), project.get("dependencies", [])
