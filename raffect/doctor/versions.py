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
from packaging.version import InvalidVersion, Version

import raffect
from raffect.doctor.facts import Code
from raffect.doctor.findings import Finding, failed, passed, warned
from raffect.text import listed

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


MUST_MATCH = ("ray",)
SHOULD_MATCH = ("torch", "torchvision", "numpy", "pyarrow", "optuna", "open-clip-torch")
"""Other versions of these run, but trials on such nodes are not comparable with the others."""
_INSTALL = "Install raffect there as on the driver: pip install --constraint constraints.txt ."
_AGAIN = "Then ask again: this node was not examined further."
_SHORT = 8


def check_code(code: Code, wanted: Wanted) -> list[Finding]:
    """Check one place against what raffect wants."""
    return [
        check_python(code, wanted),
        check_requirements(code, wanted),
        *([check_pins(code, wanted)] if wanted.pins else []),
    ]


def check_python(code: Code, wanted: Wanted) -> Finding:
    """Check Python's version."""
    if wanted.python.contains(code.python):
        return passed("python", code.python)
    return failed(
        "python",
        f"{code.python}; raffect wants {wanted.python}",
        "Make the environment with such a Python.",
    )


def check_requirements(code: Code, wanted: Wanted) -> Finding:
    """Check that what raffect depends on is there, in a version that it can use."""
    if not wanted.requirements:
        return warned(
            "packages",
            "what raffect depends on is not known: it is neither installed nor in a checkout",
            "Install it with pip.",
        )
    wrong = [f"{one.name} {has} (wants {want})" for one, has, want in _unmet(code, wanted)]
    if wrong:
        return failed("packages", listed(wrong), _INSTALL)
    return passed("packages", f"all {len(wanted.requirements)} that raffect asks for")


def check_pins(code: Code, wanted: Wanted) -> Finding:
    """Compare with the versions that raffect is tested with."""
    there = {name: code.packages[name] for name in wanted.pins if name in code.packages}
    other = [
        f"{name} {version} ({wanted.pins[name]})"
        for name, version in there.items()
        if not same_version(version, wanted.pins[name])
    ]
    if other:
        return warned(
            "constraints",
            f"{len(other)} of {len(there)} are other versions than tested: {listed(other)}",
            f"pip install --constraint {wanted.pins_from} brings the tested ones.",
        )
    return passed("constraints", f"{len(there)} packages are in the versions tested")


def check_likeness(code: Code, driver: Code) -> list[Finding]:
    """Compare a node with the driver: what is pickled on one is unpickled on the other."""
    return [_check_raffect(code, driver), _check_same(code, driver)]


def same_version(one: str, other: str) -> bool:
    """Whether two versions are the same, whatever hardware they were built for (`+cu130`)."""
    try:
        return Version(Version(one).public) == Version(Version(other).public)
    except InvalidVersion:
        return one == other


def _check_raffect(code: Code, driver: Code) -> Finding:
    if code.raffect is None:
        return failed("raffect", "it can't be imported", f"{_INSTALL} {_AGAIN}")
    if code.raffect != driver.raffect:
        return failed(
            "raffect", f"{code.raffect}; the driver has {driver.raffect}", f"{_INSTALL} {_AGAIN}"
        )
    if code.digest != driver.digest:
        return failed(
            "raffect",
            f"{code.raffect} with other source ({code.digest[:_SHORT]}) than the driver's"
            f" ({driver.digest[:_SHORT]})",
            "Bring all nodes to the driver's commit, or send the code along (raffect submit)."
            f" {_AGAIN}",
        )
    return passed("raffect", f"{code.raffect}, the driver's source")


def _check_same(code: Code, driver: Code) -> Finding:
    if _minor(code.python) != _minor(driver.python):
        return failed(
            "as on driver", f"Python {code.python}; the driver has {driver.python}", _INSTALL
        )
    other = {
        name: f"{name} {here or 'missing'} ({there or 'missing'})"
        for name in (*MUST_MATCH, *SHOULD_MATCH)
        for here, there in [(code.packages.get(name, ""), driver.packages.get(name, ""))]
        if not same_version(here, there)
    }
    if not other:
        names = ", ".join((*MUST_MATCH, *SHOULD_MATCH)[:4])
        return passed("as on driver", f"{names} and {len(SHOULD_MATCH) - 3} more")
    text = f"not the driver's: {listed(list(other.values()))}"
    if set(other) & set(MUST_MATCH):
        return failed("as on driver", text, _INSTALL)
    return warned("as on driver", text, _INSTALL)


def _unmet(code: Code, wanted: Wanted) -> list[tuple[Requirement, str, str]]:
    found = []
    for one in wanted.requirements:
        has = code.packages.get(normalised(one.name), "")
        # A version for testing, or for certain hardware, is as good as the released one.
        if not has or not one.specifier.contains(has, prereleases=True):
            found.append((one, has or "missing", str(one.specifier) or "any"))
    return found


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
