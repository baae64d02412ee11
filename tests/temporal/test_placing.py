"""Features that stay on the host, and batches of one shape, give the numbers of any other."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from raffect.affwild2.tasks import Task
from raffect.errors import SettingsError
from raffect.temporal import batches
from raffect.temporal.backward import backward
from raffect.temporal.batches import DeviceFeatures, DeviceTimelines
from raffect.temporal.blocks import FeatureBlocks
from raffect.temporal.training import Trainer
from raffect.training.device import check_compiler
from tests.temporal.builders import NO_DROPOUT, small_config

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("cuts", [None, [40, 150]])
def test_features_on_the_host_train_the_same_model(task_data, cuts):
    data = task_data(Task.VA)
    if cuts:
        values = np.split(data.features, cuts)
        blocks = FeatureBlocks(values, data.features.shape[1], data.features.dtype)
        data = type(data)(**{**vars(data), "features": blocks})
    found = []
    for place in ("auto", "host"):
        config = small_config(Task.VA, run__features=place, optimiser__accumulation=2)
        trainer = Trainer(config, data)
        losses = [trainer.run_epoch().loss for _ in range(2)]
        found.append((losses, trainer.history[-1].score))
        assert trainer._resident.train.features.on_host is (place == "host")
    assert found[0] == found[1]


def test_one_batch_is_prepared_in_advance_by_another_thread(task_data):
    data = task_data(Task.VA)
    for place, ahead in (("device", 0), ("host", 1)):
        timelines = DeviceTimelines(DeviceFeatures(data.features, CPU, place), data.train, CPU)
        made, threads = [], set()

        def make(item, made=made, threads=threads):
            made.append(item)
            threads.add(threading.current_thread())
            return []

        for number, _ in enumerate(timelines.each(range(5), make)):
            assert number + 1 <= len(made) <= number + 1 + ahead
        assert made == list(range(5))
        assert (threading.main_thread() in threads) is (place == "device")


def test_what_fails_while_a_batch_is_prepared_reaches_the_training(task_data):
    data = task_data(Task.VA)
    timelines = DeviceTimelines(DeviceFeatures(data.features, CPU, "host"), data.train, CPU)

    def make(item):
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        list(timelines.each([1], make))


@pytest.mark.parametrize(
    ("place", "device", "is_shared", "free", "on_host"),
    [
        ("auto", CPU, False, 0, False),
        ("auto", CPU, True, 0, False),
        ("host", CPU, False, 0, True),
        ("auto", GPU, True, 1 << 40, True),
        ("auto", GPU, False, 1_000, True),
        ("host", GPU, False, 1 << 40, True),
    ],
)
def test_where_features_are(monkeypatch, place, device, is_shared, free, on_host):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 1 << 40))
    values = np.zeros((100, 8), np.float16)
    found = DeviceFeatures(values, device, place, is_shared)
    assert found.on_host is on_host
    # From there they go to a GPU through pinned memory.
    assert found.pins is (on_host and device is GPU)
    assert found.tensors[0].data_ptr() == values.ctypes.data


@pytest.mark.parametrize(
    ("size", "is_shared", "fits"), [(500, False, True), (501, False, False), (1, True, False)]
)
def test_features_leave_half_of_the_free_memory_of_a_gpu_to_the_model(
    monkeypatch, size, is_shared, fits
):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1_000, 10_000))
    assert batches._fits(size, GPU, is_shared) is fits


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("head", ["relu", "batchnorm"])
def test_a_batch_that_is_filled_up_has_the_loss_and_gradient_of_the_batch(task_data, task, head):
    found = []
    for fill in (None, 9):
        trainer = Trainer(small_config(task, **NO_DROPOUT, model__head=head), task_data(task))
        trainer.model.train()
        own = trainer._segments.take(np.array([0, 5, 3]))
        batch = trainer._resident.train.gather(own, (task,), fill)
        assert batch.x.shape[0] == (fill or 3)
        assert all(not known[3:].any() for known in batch.known.values())
        loss = backward(trainer._forward, trainer._losses, [batch])
        found.append([loss, *(value.grad for value in trainer.model.parameters())])
        found[-1] += [value for name, value in trainer.model.named_buffers() if "norm" in name]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-7, rtol=1e-5)


@pytest.mark.long
def test_a_compiled_model_trains_the_same_in_one_program(task_data):
    torch._dynamo.utils.counters.clear()
    data, losses = task_data(Task.VA), {}
    bare = {**NO_DROPOUT, "model__tcn__depth": 1, "model__transformer__layers": 0}
    for compiled in (False, True):
        trainer = Trainer(small_config(Task.VA, **bare, run__compile=compiled), data)
        # The last batch has fewer segments than the others.
        assert len(trainer._segments) % 4
        losses[compiled] = [trainer.run_epoch().loss for _ in range(2)]
        before = trainer.save()
    assert losses[True] == pytest.approx(losses[False], abs=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    # It is no other run: it may go on without.
    plain = Trainer(small_config(Task.VA, **bare), data)
    plain.restore(before)
    assert plain.epoch == 2


def test_without_a_compiler_compiling_is_refused(task_data, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(SettingsError, match="no-such-compiler"):
        Trainer(small_config(Task.VA, run__compile=True), task_data(Task.VA))
    monkeypatch.delenv("CXX")
    check_compiler(CPU)
