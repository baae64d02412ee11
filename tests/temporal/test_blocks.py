"""Features in blocks give what the same features in one array do, to the bit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from raffect.affwild2.tasks import Task
from raffect.temporal.batches import DeviceFeatures
from raffect.temporal.blocks import FeatureBlocks
from raffect.temporal.linear import linear_floor
from raffect.temporal.training import Trainer
from tests.temporal.builders import small_config
from tests.temporal.test_sets import same_models

CPU = torch.device("cpu")


def in_blocks(values: np.ndarray, cuts: list[int]) -> FeatureBlocks:
    return FeatureBlocks(np.split(values, cuts), values.shape[1], values.dtype)


@pytest.mark.parametrize("cuts", [[], [5], [1, 2], [0, 4, 4, 10]])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_rows_are_those_of_the_whole_array(cuts, dtype):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(10, 3)).astype(dtype)
    blocks = in_blocks(values, cuts)
    assert (len(blocks), blocks.shape, blocks.dtype) == (10, (10, 3), values.dtype)
    for rows in (np.arange(10), rng.integers(-1, 10, 40), np.empty(0, np.int64)):
        np.testing.assert_array_equal(blocks[rows], values[rows])
        known = np.maximum(rows, 0)
        taken = DeviceFeatures(blocks, CPU).take(torch.from_numpy(known))
        np.testing.assert_array_equal(taken, values[known])


@pytest.mark.parametrize("cuts", [[], [2]])
def test_blocks_on_the_cpu_are_not_copied(cuts):
    values = np.ones((6, 2), np.float16)
    found = DeviceFeatures(in_blocks(values, cuts), CPU).tensors
    assert [each.data_ptr() for each in found] == [values[n:].ctypes.data for n in (0, *cuts)]


def test_a_set_without_a_row_is_one_of_zeros():
    found = DeviceFeatures(FeatureBlocks([], 4, np.dtype(np.float16)), CPU)
    assert not found.take(torch.zeros(3, dtype=torch.int64)).any()


def test_training_and_floor_are_the_same_to_the_bit(task_data):
    data = task_data(Task.VA)
    parts = replace(data, features=in_blocks(data.features, [40, 41, 150]))
    config = small_config(Task.VA, model__input="zscore", optimiser__epochs=2)
    trainers = [Trainer(config, each) for each in (data, parts)]
    for trainer in trainers:
        while not trainer.done:
            trainer.run_epoch()
    assert same_models(*trainers)
    assert linear_floor(parts).score == linear_floor(data).score
