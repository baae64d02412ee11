"""What the doctor concludes from facts, as tables: no machine, no cluster."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from raffect.context import TRIAL_BYTES
from raffect.doctor.checks import (
    check_access,
    check_any_gpu,
    check_clock,
    check_cores,
    check_disk,
    check_gpus,
    check_memory,
    check_object_store,
    check_open_files,
    check_server_clock,
    check_shared_memory,
    check_stranger,
    check_threads,
    check_token,
    check_variables,
    check_visit,
    estimate_object_store,
)
from raffect.doctor.facts import (
    Access,
    Disk,
    Features,
    Gpu,
    Gpus,
    Machine,
    Offset,
    StoreAction,
    StoreVisit,
    Token,
)
from raffect.doctor.findings import Finding
from raffect.doctor.node_actor import Code
from raffect.text import listed, size_text

GIB = 1 << 30
MACHINE = Machine(
    cores=16,
    usable=16.0,
    memory=64 * GIB,
    shared=60 * GIB,
    disks=(Disk("/tmp", 100 * GIB, 50 * GIB),),
    open_files=65_536,
    threads="",
    variables={},
    token=Token("", ""),
)
H200 = Gpu("H200", 140 * GIB, 139 * GIB)
CUDA = Gpus(torch="2.14.1", built_for="13.0", driver="13.1", present=2, devices=(H200, H200))


def said(finding: Finding) -> tuple[str, str]:
    """State and text; whatever is wrong comes with what to do, and only that."""
    assert bool(finding.next_step) == (finding.state != "pass")
    return str(finding.state), finding.found


@pytest.mark.parametrize(
    ("usable", "counted", "state", "text"),
    [
        (16.0, None, "pass", "16 usable"),
        (4.0, None, "pass", "4 usable of 16"),
        (16.0, 16.0, "pass", "Ray counts 16, 16 usable"),
        (3.5, 4.0, "pass", "Ray counts 4"),
        (3.5, 5.0, "warn", "Ray counts 5, this container or process may use 3.5"),
        (16.0, 0.0, "pass", "Ray counts 0"),
    ],
)
def test_cores(usable: float, counted: float | None, state: str, text: str):
    found = said(check_cores(replace(MACHINE, usable=usable), counted))
    assert found[0] == state
    assert text in found[1]


@pytest.mark.parametrize(
    ("total", "free", "what", "state"),
    [
        (100, 50, "temp disk", "pass"),
        (1000, 20, "temp disk", "warn"),
        (1000, 20, "store disk", "pass"),
        (100, 8, "store disk", "warn"),
        (100, 0.5, "store disk", "fail"),
        (100, 0.5, "temp disk", "fail"),
    ],
)
def test_disks(total: float, free: float, what: str, state: str):
    finding = check_disk(Disk("/d", int(total * GIB), int(free * GIB)), what)
    assert said(finding)[0] == state
    assert finding.check == what


@pytest.mark.parametrize(("count", "state"), [(1024, "warn"), (4095, "warn"), (4096, "pass")])
def test_open_files(count: int, state: str):
    assert said(check_open_files(count)) == (state, said(check_open_files(count))[1])


@pytest.mark.parametrize(
    ("threads", "state"),
    [("", "pass"), ("1", "pass"), ("16", "pass"), ("17", "warn"), ("64,1", "warn")],
)
def test_threads(threads: str, state: str):
    assert said(check_threads(replace(MACHINE, threads=threads)))[0] == state


@pytest.mark.parametrize(
    ("seconds", "error", "signs", "state"),
    [
        (0.1, 0.05, True, "pass"),
        (-4.9, 0.0, True, "pass"),
        (-5.1, 0.0, True, "warn"),
        (9.0, 5.0, True, "pass"),
        (1000.0, 0.0, False, "warn"),
        (1000.0, 0.0, True, "fail"),
    ],
)
def test_a_nodes_clock(seconds: float, error: float, signs: bool, state: str):
    assert said(check_clock(Offset(seconds, error), signs))[0] == state


@pytest.mark.parametrize(
    ("skew", "state", "text"),
    [(0.4, "pass", "-0 s"), (-30.0, "warn", "+30 s"), (1000.0, "fail", "-1000 s")],
)
def test_the_servers_clock(skew: float, state: str, text: str):
    found = said(check_server_clock(skew))
    assert found[0] == state
    assert text in found[1]


ENDPOINT = {"AWS_ENDPOINT_URL": "http://a"}
CHECKSUM = {"AWS_REQUEST_CHECKSUM_CALCULATION": "when_supported"}


@pytest.mark.parametrize(
    ("here", "driver", "state", "text"),
    [
        (ENDPOINT, None, "pass", "1 variables"),
        (CHECKSUM, None, "pass", "1 variables"),
        (ENDPOINT | CHECKSUM, None, "warn", "411"),
        (ENDPOINT, ENDPOINT, "pass", "as on the driver"),
        ({}, {}, "pass", "as on the driver"),
        ({"AWS_ENDPOINT_URL": "http://b"}, ENDPOINT, "fail", "http://b, on the driver http://a"),
        ({"AWS_REGION": "x"}, {}, "warn", "on the driver not set"),
        ({}, {"AWS_REGION": "x"}, "warn", "AWS_REGION is not set"),
    ],
)
def test_variables(here: dict[str, str], driver: dict[str, str] | None, state: str, text: str):
    found = said(*check_variables(here, driver))
    assert found[0] == state
    assert text in found[1]


def test_no_variables_are_no_finding():
    assert check_variables({}) == []


@pytest.mark.parametrize(
    ("memory", "shared", "expected"),
    [
        (100, 100, 30),
        (100, 20, 19),
        (100, 0, 10**10 / GIB),
        (10, 0, 3),
        (10_000, 9_999, 2e11 / GIB),
    ],
)
def test_the_object_store_that_ray_would_make(memory: float, shared: float, expected: float):
    machine = replace(MACHINE, memory=int(memory * GIB), shared=int(shared * GIB))
    assert estimate_object_store(machine) == pytest.approx(expected * GIB)


@pytest.mark.parametrize(
    ("capacity", "features", "disk", "state", "text"),
    [
        (10, 4, 50, "pass", "'clip' take 4.0 GiB"),
        (10, 8.1, 50, "warn", "little is left"),
        (3, 4, 50, "warn", "goes to the disk"),
        (3, 4, 2, "fail", "more than it and the disk hold"),
        (10, None, 50, "pass", "no features in the store yet"),
        (1, None, 50, "pass", "those of all Aff-Wild2 take 2.5 GiB"),
    ],
)
def test_the_object_store(
    capacity: float, features: float | None, disk: float, state: str, text: str
):
    wanted = None if features is None else Features("clip", int(features * GIB))
    for running in (True, False):
        finding = check_object_store(int(capacity * GIB), wanted, int(disk * GIB), running)
        assert said(finding)[0] == state
        assert text in finding.found


@pytest.mark.parametrize(
    ("free", "running", "expected"),
    [
        (8, False, ("pass", "")),
        (3.5, False, ("warn", "Give tune --concurrent 3.")),
        (3.5, True, ("pass", "")),
        (1.9, False, ("warn", "Use a machine with more memory.")),
    ],
)
def test_memory_of_a_sweep(free: float, running: bool, expected: tuple[str, str]):
    machine = replace(MACHINE, memory=int(free * GIB), usable=8.0)
    finding = check_memory(machine, Features("clip", 2 * GIB), running)
    assert (str(finding.state), finding.next_step) == expected
    assert "8 trials at a time on 'clip' take 5.4 GiB: 2.0 GiB of features once" in finding.found


def test_a_trial_s_process_holds_what_the_doctor_says():
    code = (
        "import ray, raffect.sweep.trial, raffect.temporal.training;"
        "from tests.benchmarks.measuring import unique_mb; print(unique_mb())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.6 < float(done.stdout) * 1e6 / TRIAL_BYTES < 1.2


@pytest.mark.parametrize(("shared", "state"), [(4, "pass"), (3.9, "warn")])
def test_shared_memory(shared: float, state: str):
    assert said(check_shared_memory(int(shared * GIB), 4 * GIB))[0] == state


NO_CUDA = Gpus(torch="2.14.1+cpu", problem="Torch not compiled with CUDA enabled")
OLD = replace(CUDA, driver="11.4", devices=(), problem="The NVIDIA driver is too old")
BUSY = replace(H200, free=10 * GIB)
BROKEN = replace(H200, problem="no kernel image is available")


@pytest.mark.parametrize(
    ("gpus", "counted", "expected"),
    [
        (CUDA, 2.0, [("pass", "H200 139.0 GiB free of 140.0 GiB")]),
        (CUDA, None, [("pass", "H200")]),
        (CUDA, 3.0, [("fail", "Ray counts 3, torch sees 2"), ("pass", "H200")]),
        (CUDA, 1.0, [("warn", "the others stay idle"), ("pass", "H200")]),
        (replace(CUDA, devices=(H200, BUSY)), 2.0, [("warn", "1 of 2 are in use")]),
        (replace(CUDA, devices=(H200, BROKEN)), 2.0, [("fail", "no kernel image")]),
        (OLD, 2.0, [("fail", "Ray counts 2, torch sees none: The NVIDIA driver is too old")]),
        (OLD, 0.0, [("fail", "2 there, torch sees none")]),
        (NO_CUDA, 1.0, [("fail", "torch sees none")]),
        (NO_CUDA, 0.0, [("pass", "none, and Ray counts none")]),
        (NO_CUDA, None, [("warn", "none: training and extracting are slow")]),
        (Gpus(problem="torch can't be imported: X"), None, [("fail", "can't be imported")]),
    ],
)
def test_gpus(gpus: Gpus, counted: float | None, expected: list[tuple[str, str]]):
    findings = check_gpus(gpus, counted)
    assert [said(finding)[0] for finding in findings] == [state for state, _ in expected]
    for finding, (_, text) in zip(findings, expected, strict=True):
        assert text in finding.found


@pytest.mark.parametrize(
    ("gpus", "advice"),
    [
        (OLD, "built for CUDA 13.0; the driver can do 11.4"),
        (NO_CUDA, "torch 2.14.1+cpu is built for CPUs"),
        (Gpus(problem="torch did not answer in 120 s"), "Update the driver"),
    ],
)
def test_what_to_do_about_gpus_names_driver_and_build(gpus: Gpus, advice: str):
    assert advice in check_gpus(gpus, 1.0)[0].next_step


@pytest.mark.parametrize(("number", "state"), [(0, "warn"), (3, "pass")])
def test_gpus_of_a_cluster(number: float, state: str):
    assert said(check_any_gpu(number))[0] == state


def visit(problem: str = "", action: str = "write", ms: float = 5.0, **more: Any) -> StoreVisit:
    return StoreVisit((StoreAction(action, ms, problem),), **more)


@pytest.mark.parametrize(
    ("what", "is_local", "expected"),
    [
        (visit(), True, [("store write", "pass", "5 ms")]),
        (visit(ms=2500.0), False, [("store write", "warn", "2500 ms: slow")]),
        (visit("refused"), False, [("store write", "fail", "refused")]),
        (visit("refused", saw_note=False), False, [("store write", "fail", "refused")]),
        (visit(action="connect", ms=2500.0), False, [("store connect", "pass", "2500 ms")]),
        (
            visit("let in", "conditional"),
            False,
            [("store conditional", "fail", "let")],
        ),
        (visit(action="delete"), False, [("store delete", "pass", "and s3:DeleteObject")]),
        (visit(action="delete"), True, [("store delete", "pass", "5 ms")]),
        (visit(saw_note=True), True, [("", "pass", "ms"), ("same store", "pass", "is there")]),
        (
            visit(saw_note=False),
            True,
            [("", "pass", "ms"), ("same store", "fail", "another disk")],
        ),
        (visit(saw_note=False), False, [("", "pass", "ms"), ("same store", "fail", "be read")]),
        (visit(skew=0.2), False, [("", "pass", "ms"), ("S3 clock", "pass", "S3 server")]),
        (visit(skew=-1e4), False, [("", "pass", "ms"), ("S3 clock", "fail", "signed")]),
    ],
)
def test_visits_of_the_store(
    what: StoreVisit, is_local: bool, expected: list[tuple[str, str, str]]
):
    findings = check_visit(what, is_local)
    for finding, (check, state, text) in zip(findings, expected, strict=True):
        assert said(finding)[0] == state
        assert text in finding.found
        assert finding.check == (check or "store write")


FILE = "/home/me/token"


@pytest.mark.parametrize(
    ("token", "joins", "state", "text"),
    [
        (Token("", ""), False, "pass", "on"),
        (Token("disabled", ""), False, "warn", "RAY_AUTH_MODE=disabled"),
        (Token("", ""), True, "warn", "not set"),
        (Token("token", ""), True, "fail", "there is no token"),
        (Token("token", FILE, 0o600), True, "pass", FILE),
        (Token("token", FILE, 0o640), True, "warn", "mode 0640"),
        (Token("token", FILE, None, "there is no such file"), True, "fail", "no such file"),
        (Token("token", "RAY_AUTH_TOKEN"), True, "pass", "RAY_AUTH_TOKEN"),
    ],
)
def test_tokens(token: Token, joins: bool, state: str, text: str):
    found = said(check_token(token, joins))
    assert found[0] == state
    assert text in found[1]


DRIVER = Code(python="3.11.7", raffect="0.1.0", digest="d", packages={"ray": "2.60.0"})


@pytest.mark.parametrize(
    ("access", "state", "text"),
    [
        (Access("open", ray="2.60.0", python="3.11.7"), "pass", "Ray 2.60.0"),
        (Access("open", ray="2.59.0", python="3.11.7"), "fail", "the cluster runs Ray 2.59.0"),
        (Access("open", ray="2.60.0", python="3.11.9"), "fail", "Python 3.11.9"),
        (Access("refused", "no token"), "fail", "refuses this token"),
        (Access("silent", "no answer in 45 s"), "fail", "no answer in 45 s"),
    ],
)
def test_access_to_a_cluster(access: Access, state: str, text: str):
    found = said(check_access(access, DRIVER, "head:6379"))
    assert found[0] == state
    assert text in found[1]


@pytest.mark.parametrize(
    ("answer", "state"), [("refused", "pass"), ("open", "warn"), ("silent", "warn")]
)
def test_strangers(answer: str, state: str):
    assert said(check_stranger(Access(answer, "why")))[0] == state


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (2048, "2 KiB"),
        (3 << 20, "3 MiB"),
        (1.5 * GIB, "1.5 GiB"),
        (3 << 40, "3.0 TiB"),
    ],
)
def test_sizes_for_people(count: float, text: str):
    assert size_text(count) == text


def test_long_lists_are_cut():
    assert listed(["a", "b"], 2) == "a, b"
    assert listed(["a", "b", "c"], 2) == "a, b, and 1 more"
