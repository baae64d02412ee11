"""The command on this machine alone: what a person sees, what a script reads, its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from raffect.cli.app import run
from raffect.cli.doctor import _show
from raffect.cli.screen import WIDTH, Screen
from raffect.doctor.findings import Finding, State, at, failed, passed, warned

NOBODY = ("--address", "127.0.0.1:9")
"""Where no cluster is; of a driver torch is not asked, which would take its time."""


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAFFECT_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")


@pytest.mark.slow
def test_a_script_reads_findings_of_one_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    code = run(["doctor", "--json", "--store", str(tmp_path / "store")])
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert {tuple(one) for one in found} == {("place", "check", "state", "found", "next_step")}
    assert {one["place"] for one in found} == {"this machine"}
    checks = {one["check"]: one["state"] for one in found}
    assert {"python", "packages", "token", "cores", "temp disk", "store disk", "object store",
            "/dev/shm", "memory", "store write", "store conditional"} <= set(checks)  # fmt: skip
    assert checks["store write"] == "pass"
    assert code == (2 if "fail" in checks.values() else 0)
    assert "planted" not in out + err
    assert list(tmp_path.iterdir()) == []


def test_a_person_sees_a_table_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").write_text("in the way")
    code = run(["doctor", *NOBODY, "--store", str(tmp_path / "file")])
    out = capsys.readouterr().out
    assert code == 2
    assert "driver" in out
    assert "what to do" in out
    assert "store connect" in out
    assert " fail" in out.splitlines()[-1]
    assert max(map(len, out.splitlines())) <= WIDTH


def test_quiet_says_only_what_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").write_text("in the way")
    assert run(["doctor", *NOBODY, "--quiet", "--store", str(tmp_path / "file")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "driver: store connect: " in err
    assert "cluster: reach: " in err
    assert "pass" not in err


def test_features_that_are_not_there_are_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    options = ["--json", "--features", "absent", "--store", str(tmp_path / "store")]
    run(["doctor", *NOBODY, *options])
    found = {one["check"]: one for one in json.loads(capsys.readouterr().out)}
    assert found["features"]["state"] == "warn"
    assert "raffect extract" in found["features"]["next_step"]


@pytest.mark.parametrize("option", [True, False])
def test_a_job_server_is_no_address(
    option: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    address = "http://head:8265"
    if not option:
        monkeypatch.setenv("RAY_ADDRESS", address)
    assert run(["doctor", *(["--address", address] if option else [])]) == 2
    assert f"raffect submit --address {address} -- doctor" in capsys.readouterr().err


def test_where_no_cluster_is_the_driver_is_examined_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert run(["doctor", *NOBODY, "--json", "--store", str(tmp_path / "store")]) == 2
    found = json.loads(capsys.readouterr().out)
    assert [one["state"] for one in found if one["check"] == "store write"] == ["pass"]
    assert found[-1]["check"] == "reach"
    assert "127.0.0.1:9" in found[-1]["found"]


def shown(
    findings: list[Finding], capsys: pytest.CaptureFixture[str], verbose: bool = False
) -> str:
    screen = Screen()
    screen.console = Console(width=WIDTH)
    _show(screen, findings, verbose)
    return capsys.readouterr().out


def test_what_is_wrong_is_shown_and_what_passes_is_counted(capsys: pytest.CaptureFixture[str]):
    driver = at("driver", [passed("python", "3.11.7")])
    nodes = [
        one
        for number in range(5)
        for one in at(f"node n{number}", [passed("cores", "16"), warned("disk", "[full]", "tidy")])
    ]
    out = shown(driver + nodes, capsys)
    assert "python" not in out
    assert "cores" not in out
    assert out.count("[full]") == 5
    assert out.count("1 of 2 checks pass") == 5
    assert "1 of 1 checks pass" in out
    assert "6 pass, 5 warn, 0 fail  (--verbose shows the checks that pass)" in out
    whole = shown(driver + nodes, capsys, verbose=True)
    assert "3.11.7" in whole
    assert whole.count("cores") == 5
    assert "--verbose" not in whole


def test_long_words_are_folded_and_stay_whole(capsys: pytest.CaptureFixture[str]):
    path = "q" * 200
    out = shown(at("driver", [failed("disk", path, f"delete {path}")]), capsys)
    assert max(map(len, out.splitlines())) <= WIDTH
    assert out.count("q") == 400


def test_a_state_is_its_name():
    assert [str(state) for state in State] == ["pass", "warn", "fail"]
