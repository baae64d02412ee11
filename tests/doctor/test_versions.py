"""Which versions the doctor wants, and what it says of others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import raffect
from raffect.doctor import versions
from raffect.doctor.node_actor import Code, describe_code, digest_sources
from raffect.doctor.versions import (
    Expected,
    check_code,
    check_likeness,
    find_expected,
    read_pins,
    same_version,
)

NAMES = "ray torch torchvision numpy pyarrow optuna open-clip-torch"
PACKAGES = dict.fromkeys(NAMES.split(), "1.0")
CODE = Code(python="3.11.7", raffect="0.1.0", digest="digest", packages=PACKAGES)
EXPECTED = Expected(
    SpecifierSet(">=3.11"),
    (Requirement("ray[tune]==1.*"), Requirement("Open_CLIP_Torch>=1")),
    {"ray": "1.0", "numpy": "1.0", "absent": "3"},
    "constraints.txt",
)


def with_packages(**changes: str | None) -> Code:
    named = {name.replace("_", "-"): version for name, version in changes.items()}
    merged = {**PACKAGES, **named}
    return {**CODE, "packages": {k: v for k, v in merged.items() if v is not None}}


@pytest.mark.parametrize(
    ("code", "check", "state", "text"),
    [
        (CODE, "python", "pass", "3.11.7"),
        ({**CODE, "python": "3.10.2"}, "python", "fail", "raffect wants >=3.11"),
        (CODE, "packages", "pass", "all 2"),
        (with_packages(ray="1.5rc1"), "packages", "pass", "all 2"),
        (with_packages(ray="2.0"), "packages", "fail", "ray 2.0 (wants ==1.*)"),
        (with_packages(open_clip_torch=None), "packages", "fail", "Open_CLIP_Torch missing"),
        (CODE, "constraints", "pass", "2 packages"),
        (with_packages(numpy="1.0+cu130"), "constraints", "pass", "2 packages"),
        (
            with_packages(numpy="1.1"),
            "constraints",
            "warn",
            "1 of 2 are other versions than tested",
        ),
    ],
)
def test_against_what_raffect_wants(code: Code, check: str, state: str, text: str):
    found = {finding.check: finding for finding in check_code(code, EXPECTED)}
    assert str(found[check].state) == state
    assert text in found[check].found
    assert bool(found[check].next_step) == (state != "pass")


def test_without_a_constraints_file_there_is_nothing_to_compare_with():
    found = [finding.check for finding in check_code(CODE, replace(EXPECTED, pins={}))]
    assert found == ["python", "packages"]


def test_unknown_requirements_are_no_pass():
    found = {one.check: one for one in check_code(CODE, replace(EXPECTED, requirements=()))}
    assert str(found["packages"].state) == "warn"


@pytest.mark.parametrize(
    ("node", "states", "text"),
    [
        (CODE, ["pass", "pass"], ""),
        (with_packages(torch="1.0+cpu"), ["pass", "pass"], ""),
        (with_packages(torch="1.1"), ["pass", "warn"], "torch 1.1 (1.0)"),
        (with_packages(optuna=None), ["pass", "warn"], "optuna missing (1.0)"),
        (with_packages(ray="1.1"), ["pass", "fail"], "ray 1.1 (1.0)"),
        ({**CODE, "python": "3.12.7"}, ["pass", "fail"], "Python 3.12.7"),
        ({**CODE, "python": "3.11.2"}, ["pass", "pass"], ""),
        ({**CODE, "raffect": None}, ["fail", "pass"], "can't be imported"),
        ({**CODE, "raffect": "0.0.9"}, ["fail", "pass"], "0.0.9; the driver has 0.1.0"),
        ({**CODE, "digest": "other"}, ["fail", "pass"], "other source"),
    ],
)
def test_a_node_against_the_driver(node: Code, states: list[str], text: str):
    findings = check_likeness(node, CODE)
    assert [str(finding.state) for finding in findings] == states
    assert text in " ".join(finding.found for finding in findings)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2.14.1", "2.14.1+cu130", True),
        ("2.14.1", "2.14.2", False),
        ("2.14", "2.14.0", True),
        ("odd version", "odd version", True),
        ("", "1.0", False),
    ],
)
def test_versions_are_compared_without_what_they_were_built_for(one: str, other: str, same: bool):
    assert same_version(one, other) is same


def test_pins_are_read_and_other_lines_left_out():
    text = "# a comment\nRay == 2.60.0 ; python_version > '3'\nopen_clip_torch==3.3.0\nnumpy>=2\n"
    assert read_pins(text) == {"ray": "2.60.0", "open-clip-torch": "3.3.0"}


def test_this_raffect_says_what_it_wants():
    expected = find_expected()
    names = {one.name for one in expected.requirements}
    assert {"ray", "torch", "optuna"} <= names
    assert "pytest" not in names
    assert expected.python.contains("3.11.7")
    assert not expected.python.contains("3.10.0")
    assert expected.pins["ray"].startswith("2.60")


def test_the_constraints_of_another_project_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "constraints.txt").write_text("django==5.0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(versions, "find_files", lambda: None)
    assert find_expected().pins == {}


def test_this_process_is_what_this_raffect_wants():
    code = describe_code()
    states = {one.check: str(one.state) for one in check_code(code, find_expected())}
    assert states["python"] == states["packages"] == "pass"
    assert code["raffect"] == raffect.__version__
    assert [str(one.state) for one in check_likeness(code, code)] == ["pass", "pass"]


def test_any_change_of_the_source_changes_its_digest(tmp_path: Path):
    (tmp_path / "a.py").write_text("x = 1\n")
    before = digest_sources(tmp_path)
    (tmp_path / "notes.txt").write_text("no source\n")
    assert digest_sources(tmp_path) == before
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    renamed = digest_sources(tmp_path)
    (tmp_path / "b.py").write_text("x = 2\n")
    assert len({before, renamed, digest_sources(tmp_path)}) == 3
