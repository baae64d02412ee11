"""Versions of Python, raffect and its packages: what is expected, and checks against it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from raffect.doctor.findings import Finding, failed, passed, warned
from raffect.doctor.node_actor import Code, normalised
from raffect.requirements import CONSTRAINTS, Declared, declared, find_files
from raffect.text import listed

MUST_MATCH = ("ray",)
SHOULD_MATCH = ("torch", "torchvision", "numpy", "pyarrow", "optuna", "open-clip-torch")
"""Other versions of these run, but trials on such nodes are not comparable with the others."""
_PIN = re.compile(r"([A-Za-z0-9._-]+)\s*==\s*([^\s;#]+)")
_INSTALL = "Install raffect there as on the driver: pip install --constraint constraints.txt ."


@dataclass(frozen=True)
class Expected:
    """What should be installed: dependencies, and the tested `pins`; empty where not known."""

    python: SpecifierSet
    requirements: tuple[Requirement, ...]
    pins: Mapping[str, str]
    pins_from: str = ""


def find_expected() -> Expected:
    """What this raffect expects: by the checkout that it is in, else by its installed metadata."""
    known = declared() or Declared("", ())
    needed = [Requirement(line) for line in known.lines]
    needed = [one for one in needed if not one.marker or one.marker.evaluate({"extra": ""})]
    python = SpecifierSet(known.python)
    for folder in (find_files(), Path()):
        file = folder / CONSTRAINTS if folder else None
        pins = read_pins(file.read_text(encoding="utf-8")) if file and file.is_file() else {}
        # The working folder may be another project's.
        if "ray" in pins:
            return Expected(python, tuple(needed), pins, str(file))
    return Expected(python, tuple(needed), {})


def read_pins(text: str) -> dict[str, str]:
    """Normalised names and versions of a constraints file; other lines are left out."""
    found = (_PIN.match(line.strip()) for line in text.splitlines())
    return {normalised(match[1]): match[2] for match in found if match}


def check_code(code: Code, expected: Expected) -> list[Finding]:
    """Check the code of one place against what raffect expects."""
    text = code["python"]
    python = passed("python", text)
    if not expected.python.contains(text):
        text = f"{text}; raffect wants {expected.python}"
        python = failed("python", text, "Make the environment with such a Python.")
    findings = [python, _check_requirements(code, expected)]
    return [*findings, _check_pins(code, expected)] if expected.pins else findings


def check_likeness(code: Code, driver: Code) -> list[Finding]:
    """Compare a node with the driver: what is pickled on one is unpickled on the other."""
    return [_check_raffect(code, driver), _check_packages(code, driver)]


def same_version(one: str, other: str) -> bool:
    """Whether two versions are equal apart from their local part (`+cu130`)."""
    try:
        return Version(Version(one).public) == Version(Version(other).public)
    except InvalidVersion:
        return one == other


def _check_requirements(code: Code, expected: Expected) -> Finding:
    if not expected.requirements:
        text = "what raffect depends on is not known: it is neither installed nor in a checkout"
        return warned("packages", text, "Install it with pip.")
    wrong = []
    for one in expected.requirements:
        has = code["packages"].get(normalised(one.name), "")
        # A pre-release or a build for certain hardware is as good as the release.
        if not has or not one.specifier.contains(has, prereleases=True):
            wrong.append(f"{one.name} {has or 'missing'} (wants {str(one.specifier) or 'any'})")
    if wrong:
        return failed("packages", listed(wrong), _INSTALL)
    return passed("packages", f"all {len(expected.requirements)} that raffect asks for")


def _check_pins(code: Code, expected: Expected) -> Finding:
    pins = expected.pins
    there = {name: code["packages"][name] for name in pins if name in code["packages"]}
    other = [
        f"{name} {version} ({pins[name]})"
        for name, version in there.items()
        if not same_version(version, pins[name])
    ]
    if other:
        text = f"{len(other)} of {len(there)} are other versions than tested: {listed(other)}"
        step = f"pip install --constraint {expected.pins_from} brings the tested ones."
        return warned("constraints", text, step)
    return passed("constraints", f"{len(there)} packages are in the versions tested")


def _check_raffect(code: Code, driver: Code) -> Finding:
    version, digest = code["raffect"], code["digest"]
    step = _INSTALL
    if version is None:
        text = "it can't be imported"
    elif version != driver["raffect"]:
        text = f"{version}; the driver has {driver['raffect']}"
    elif digest != driver["digest"]:
        theirs = driver["digest"]
        text = f"{version} with other source ({digest[:8]}) than the driver's ({theirs[:8]})"
        step = "Bring all nodes to the driver's commit, or send the code along (raffect submit)."
    else:
        return passed("raffect", f"{version}, the driver's source")
    return failed("raffect", text, f"{step} Then ask again: this node was not examined further.")


def _check_packages(code: Code, driver: Code) -> Finding:
    check = "as on driver"
    here, there = code["python"], driver["python"]
    if here.split(".")[:2] != there.split(".")[:2]:
        return failed(check, f"Python {here}; the driver has {there}", _INSTALL)
    other = {}
    for name in (*MUST_MATCH, *SHOULD_MATCH):
        here, there = (one["packages"].get(name, "") for one in (code, driver))
        if not same_version(here, there):
            other[name] = f"{name} {here or 'missing'} ({there or 'missing'})"
    if not other:
        names = ", ".join((*MUST_MATCH, *SHOULD_MATCH)[:4])
        return passed(check, f"{names} and {len(SHOULD_MATCH) - 3} more")
    judged = failed if set(other) & set(MUST_MATCH) else warned
    return judged(check, f"not the driver's: {listed(list(other.values()))}", _INSTALL)
