from __future__ import annotations

from typing import Any

import pytest
import ray

from raffect.config import Device
from raffect.errors import SettingsError
from raffect.sweep.execution import Execution, plan_execution
from raffect.sweep.settings import SweepSettings


@pytest.mark.parametrize(
    ("cluster", "settings", "expected"),
    [
        ({"CPU": 2}, {}, (2, 1.0, 0.0, 1)),
        ({"CPU": 2}, {"concurrent": 1}, (1, 1.0, 0.0, 1)),
        ({"CPU": 2}, {"concurrent": 3}, (3, 0.6666, 0.0, 1)),
        ({"CPU": 2}, {"concurrent": 500, "trials": 2}, (2, 1.0, 0.0, 1)),
        ({"CPU": 2}, {"concurrent": 500}, (500, 0.004, 0.0, 1)),
        ({"CPU": 16, "GPU": 1}, {}, (1, 1.0, 1.0, 1)),
        ({"CPU": 16, "GPU": 2}, {"gpus_per_trial": 0.25}, (8, 1.0, 0.25, 1)),
        ({"CPU": 16, "GPU": 2}, {"concurrent": 5}, (2, 1.0, 1.0, 1)),
        ({"CPU": 16, "GPU": 2}, {"gpus_per_trial": 0.1}, (16, 1.0, 0.1, 1)),
        ({"CPU": 16, "GPU": 4}, {"gpus_per_trial": 0.0}, (16, 1.0, 0.0, 1)),
        ({"CPU": 2}, {"workers_per_trial": 2}, (1, 0.01, 0.0, 2)),
        ({"CPU": 2}, {"workers_per_trial": 8}, (1, 0.01, 0.0, 8)),
        ({"CPU": 16}, {"workers_per_trial": 2}, (15, 0.01, 0.0, 2)),
        ({"CPU": 16}, {"workers_per_trial": 2, "concurrent": 3}, (3, 0.01, 0.0, 2)),
        ({"CPU": 16, "GPU": 8}, {"workers_per_trial": 4, "concurrent": 9}, (2, 0.01, 0.0, 4)),
    ],
)
def test_trials_fit_the_cluster(
    monkeypatch: pytest.MonkeyPatch,
    cluster: dict[str, float],
    settings: dict[str, Any],
    expected: tuple[int, float, float, int],
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: cluster)
    found = plan_execution(SweepSettings(**settings), True, "auto")
    devices = expected[2] or float(expected[3])
    assert found == Execution(*expected, devices)
    assert found.concurrent * found.cpus <= cluster["CPU"] + 1e-9


def test_more_processes_than_memory_holds_are_refused_on_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2, "memory": 8e9})
    wanted = SweepSettings(concurrent=500, trials=1000)
    with pytest.raises(SettingsError, match=r"500 trials at a time take 186\.3 GiB") as refused:
        plan_execution(wanted, True, "auto")
    assert refused.value.allowed == "at most 20 at a time"
    assert plan_execution(wanted, False, "auto").concurrent == 500
    small = SweepSettings(concurrent=20, trials=1000)
    assert plan_execution(small, True, "auto").concurrent == 20


@pytest.mark.parametrize(("memory", "expected"), [(8e9, 20), (1e9, 2), (1e8, 1), (400e9, 128)])
def test_without_a_wish_as_many_run_as_memory_holds(
    monkeypatch: pytest.MonkeyPatch, memory: float, expected: int
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 128, "memory": memory})
    found = plan_execution(SweepSettings(trials=1000), True, "auto")
    assert (found.concurrent, found.cpus) == (expected, 1.0)


def test_what_this_machine_never_has_is_refused_and_a_cluster_may_grow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2})
    wanted = SweepSettings(gpus_per_trial=1.0)
    with pytest.raises(SettingsError, match="wants 1 GPUs; this machine has 0"):
        plan_execution(wanted, True, "auto")
    assert plan_execution(wanted, False, "auto").gpus == 1.0


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, (16, 0.0, 1.0)), ({"workers_per_trial": 2}, (15, 0.0, 2.0))],
)
def test_trials_on_cpus_take_no_gpu(
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    expected: tuple[int, float, float],
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 16, "GPU": 2})
    found = plan_execution(SweepSettings(**settings), True, "cpu")
    assert (found.concurrent, found.gpus, found.devices) == expected


@pytest.mark.parametrize(("device", "gpus"), [("cpu", 0.5), ("cuda", 0.0)])
def test_a_device_and_gpus_that_contradict_are_refused(
    monkeypatch: pytest.MonkeyPatch, device: Device, gpus: float
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 16, "GPU": 2})
    with pytest.raises(SettingsError, match=f"run.device is {device}"):
        plan_execution(SweepSettings(gpus_per_trial=gpus), True, device)
