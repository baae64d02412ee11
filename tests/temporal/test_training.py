import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import safetensors.torch
import torch

from raffect.affwild2.scores import score
from raffect.affwild2.sums import VideoSums, score_sums
from raffect.affwild2.tasks import Task
from raffect.config import OptimiserConfig
from raffect.errors import SettingsError
from raffect.temporal.epochs import EpochResult
from raffect.temporal.inference import predict
from raffect.temporal.resident import ResidentData
from raffect.temporal.training import Trainer, is_done
from raffect.training.checkpoints import unpack_state
from raffect.training.loop import NotFiniteError
from tests.temporal.builders import small_config


def run(trainer, epochs):
    for _ in range(epochs):
        trainer.run_epoch()
    return trainer


def numbers(trainer):
    """Everything that has to be the same to the bit; time is not."""
    history = [{**asdict(result), "seconds": 0} for result in trainer.history]
    weights = {name: value.numpy().tobytes() for name, value in trainer.model.state_dict().items()}
    return history, weights


@pytest.mark.parametrize("task", list(Task))
def test_the_sums_of_videos_give_the_score_of_every_epoch_that_was_the_best(task_data, task):
    data = task_data(task)
    trainer = run(Trainer(small_config(task, optimiser__lr=0.02), data), 5)
    found = VideoSums.from_bytes(trainer.model_files()["sums.parquet"])
    scores = [result.score for result in trainer.history]
    best_then = [n for n in range(1, 6) if scores[n - 1] > max(scores[: n - 1], default=-1)]
    assert found.epochs == tuple(best_then)
    assert set(found.videos) <= set(data.validation.videos)
    for epoch in found.epochs:
        whole = score_sums(task, np.ones((1, len(found.videos)), int), found.at(epoch))
        assert whole[0] == pytest.approx(scores[epoch - 1], abs=1e-12)


@pytest.mark.parametrize("task", list(Task))
def test_training_learns(task_data, task):
    trainer = run(Trainer(small_config(task), task_data(task)), 4)
    assert trainer.history[-1].loss < trainer.history[0].loss
    assert trainer.epoch == 4
    assert [result.epoch for result in trainer.history] == [1, 2, 3, 4]
    assert trainer.best.score == max(result.score for result in trainer.history)
    assert np.mean(list(trainer.best.parts.values())) == pytest.approx(trainer.best.score)


def test_same_seed_and_settings_give_the_same_bits_whatever_ran_before(task_data):
    data = ResidentData(task_data(Task.EXPR), torch.device("cpu"))
    config, other = small_config(Task.EXPR), small_config(Task.EXPR, run__seed=1)
    first = numbers(run(Trainer(config, data), 2))
    different = numbers(run(Trainer(other, data), 2))
    torch.manual_seed(99)
    torch.randn(1000)
    assert numbers(run(Trainer(config, data), 2)) == first
    assert different != first


def test_training_leaves_the_global_random_state_alone(task_data):
    data = task_data(Task.VA)
    torch.manual_seed(3)
    expected = torch.randn(4)
    torch.manual_seed(3)
    run(Trainer(small_config(Task.VA), data), 1)
    assert torch.equal(torch.randn(4), expected)


def test_a_restored_run_goes_on_to_the_same_bits(task_data):
    data, config = task_data(Task.VA, Task.AU), small_config(Task.VA, losses__auxiliary__au=0.1)
    whole = run(Trainer(config, data), 4)
    run(half := Trainer(config, data), 2)
    saved = half.save()
    run(half, 1)  # what is lost by the interruption

    restored = Trainer(config, data)
    restored.restore(saved)
    assert restored.epoch == 2
    assert numbers(run(restored, 2)) == numbers(whole)
    assert restored.best.epoch == whole.best.epoch
    for name in ("model.safetensors", "sums.parquet"):
        assert restored.model_files()[name] == whole.model_files()[name]


def test_the_state_of_a_run_that_has_not_begun_can_be_kept(task_data):
    data, config = task_data(Task.VA), small_config(Task.VA)
    saved = Trainer(config, data).save()
    restored = Trainer(config, data)
    restored.restore(saved)
    assert (restored.epoch, restored.best) == (0, None)
    assert numbers(run(restored, 1)) == numbers(run(Trainer(config, data), 1))


def test_the_state_holds_no_pickle(task_data):
    run(trainer := Trainer(small_config(Task.VA), task_data(Task.VA)), 1)
    state = trainer.save()
    assert safetensors.torch.load(state)
    _, facts = unpack_state(state)
    assert len(facts["history"]) == 1


def test_state_of_other_settings_is_refused(task_data):
    data = task_data(Task.VA)
    run(trainer := Trainer(small_config(Task.VA), data), 1)
    saved = trainer.save()
    with pytest.raises(ValueError, match="other settings"):
        Trainer(small_config(Task.VA, optimiser__lr=0.5), data).restore(saved)


def test_the_model_written_is_that_of_the_best_epoch(task_data):
    data = task_data(Task.EXPR)
    trainer = Trainer(small_config(Task.EXPR, optimiser__lr=0.05), data)
    weights = {}
    for _ in range(4):
        result = trainer.run_epoch()
        weights[result.epoch] = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    metrics = json.loads(trainer.model_files()["metrics.json"])
    scores = [result.score for result in trainer.history]
    assert metrics["best_epoch"] == int(np.argmax(scores)) + 1
    assert metrics["score"] == max(scores)
    assert [each["score"] for each in metrics["history"]] == scores
    trainer.model.load_state_dict(weights[metrics["best_epoch"]])
    assert trainer.validate().score.value == metrics["score"]


def test_the_score_counts_every_valid_frame_once(task_data):
    data = task_data(Task.AU)
    trainer = run(Trainer(small_config(Task.AU), data), 1)
    per_video = predict(trainer.model, trainer.config, data.features, data.validation)
    labels = data.validation.labels[Task.AU]
    assert [len(values) for values in per_video] == data.validation.lengths.tolist()
    assert int(labels.valid.sum()) < data.validation.frames
    expected = score(Task.AU, np.concatenate(per_video)[labels.valid], labels.values[labels.valid])
    assert trainer.history[0].score == expected.value


def test_an_auxiliary_task_changes_training_and_only_then(task_data):
    alone, both = task_data(Task.VA), task_data(Task.VA, Task.EXPR)
    base = numbers(run(Trainer(small_config(Task.VA), alone), 1))
    assert numbers(run(Trainer(small_config(Task.VA), both), 1)) == base
    helped = run(Trainer(small_config(Task.VA, losses__auxiliary__expr=1.0), both), 1)
    assert helped.history[0].loss != base[0][0]["loss"]
    assert "heads.expr.0.weight" in helped.model.state_dict()


def test_a_loss_that_is_not_finite_stops_the_run(task_data):
    data = task_data(Task.VA)
    trainer = Trainer(small_config(Task.VA), data)
    with torch.no_grad():
        trainer.model.heads["va"][0].weight[0, 0] = float("nan")
    with pytest.raises(NotFiniteError, match="epoch 1"):
        trainer.run_epoch()
    assert trainer.history == []


def test_features_that_are_not_finite_stop_the_run(task_data):
    data = task_data(Task.EXPR)
    features = data.features.copy()
    features[0] = np.inf
    with pytest.raises(NotFiniteError):
        Trainer(small_config(Task.EXPR), replace(data, features=features)).run_epoch()


def test_gradients_are_clipped_only_where_asked(task_data):
    data = task_data(Task.VA)
    free = numbers(run(Trainer(small_config(Task.VA), data), 1))
    loose = numbers(run(Trainer(small_config(Task.VA, optimiser__clip_norm=1e9), data), 1))
    tight = numbers(run(Trainer(small_config(Task.VA, optimiser__clip_norm=1e-9), data), 1))
    assert loose == free
    assert tight != free


def test_bfloat16_trains_on_the_cpu_too(task_data):
    config = small_config(Task.VA, run__precision="bfloat16")
    assert math.isfinite(run(Trainer(config, task_data(Task.VA)), 1).history[0].loss)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_the_users_mistake(task_data):
    with pytest.raises(SettingsError, match="no GPU"):
        Trainer(small_config(Task.VA, run__device="cuda"), task_data(Task.VA))


def test_a_checkpoint_serves_a_run_whose_batches_come_in_parts(task_data):
    data = task_data(Task.VA)
    saved = run(Trainer(small_config(Task.VA), data), 1).save()
    parted = Trainer(small_config(Task.VA, optimiser__accumulation=2), data)
    parted.restore(saved)
    assert parted.run_epoch().epoch == 2


@pytest.mark.parametrize(
    ("scores", "patience", "done"),
    [
        ([], 1, False),
        ([0.1], 1, False),
        ([0.1, 0.1], 1, True),
        ([0.1, 0.2, 0.1], 2, False),
        ([0.1, 0.2, 0.1, 0.2], 2, True),
        ([0.1, 0.2, 0.1, 0.3], 2, False),
        ([0.3, 0.1, 0.1, 0.1], None, False),
        ([0.1] * 5, None, True),
    ],
)
def test_a_run_ends_at_its_budget_or_when_its_patience_does(scores, patience, done):
    history = [EpochResult(i + 1, 1.0, value, {}, 0.1, 1e-3) for i, value in enumerate(scores)]
    assert is_done(OptimiserConfig(epochs=5, patience=patience), history) is done
