from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from raffect.clip.encoder import CLASSES, build_encoder, to_images
from raffect.clip.images import decode_batch
from raffect.clip.training import Batch, FinetuneEpoch, Finetuner
from raffect.training.checkpoints import unpack_state
from raffect.training.loop import NotFiniteError
from tests.clip.clip_data import crop, tiny_config

COUNTS = np.full(8, 10)


def make_batches(count: int, seed: int, size: int = 16) -> list[Batch]:
    rng = np.random.default_rng(seed)
    encoder = build_encoder(tiny_config().encoder)
    batches = []
    for _ in range(count):
        labels = rng.integers(0, 8, size)
        pixels = decode_batch([crop(int(c), rng) for c in labels], encoder.preprocessing)
        batches.append((torch.from_numpy(pixels), torch.from_numpy(labels)))
    return batches


@pytest.fixture(scope="module")
def train() -> list[Batch]:
    return make_batches(8, 0)


@pytest.fixture(scope="module")
def validation() -> list[Batch]:
    return make_batches(4, 1, 20)


def make(**changes: Any) -> Finetuner:
    config = tiny_config(**changes)
    return Finetuner(build_encoder(config.encoder, config.head), config, COUNTS, steps=8)


def without_time(history: list[FinetuneEpoch]) -> list[dict[str, Any]]:
    return [{k: v for k, v in facts.items() if k != "seconds"} for facts in history]


def test_it_learns_an_easy_set(train: list[Batch], validation: list[Batch]):
    finetuner = make(epochs=3)
    history = [finetuner.train_epoch(train, validation) for _ in range(3)]
    assert [facts["epoch"] for facts in history] == [1, 2, 3]
    assert history[-1]["loss"] < history[0]["loss"]
    assert history[-1]["macro_f1"] > 0.5
    assert finetuner.best == max(history, key=lambda facts: facts["macro_f1"])


def test_the_score_is_the_macro_f1_of_the_averaged_weights(
    train: list[Batch], validation: list[Batch]
):
    finetuner = make()
    facts = finetuner.train_epoch(train, validation)
    with torch.no_grad():
        finetuner.mean.eval()
        guesses = torch.cat([finetuner.mean(to_images(x)).argmax(1) for x, _ in validation])
    truth = torch.cat([y for _, y in validation])
    expected = f1_score(truth, guesses, labels=range(8), average="macro", zero_division=0)
    assert facts["macro_f1"] == pytest.approx(expected, abs=1e-12)
    assert list(facts["parts"]) == list(CLASSES)


@pytest.mark.parametrize(
    "changes",
    [{}, {"encoder.model": "raffect-tiny"}, {"lora_rank": 2, "head": "prompt"}],
    ids=["transformer", "convolutions", "lora and prompt"],
)
@pytest.mark.slow
def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(
    train: list[Batch], validation: list[Batch], changes: dict[str, Any]
):
    whole = make(epochs=3, **changes)
    for _ in range(3):
        whole.train_epoch(train, validation)
    first = make(epochs=3, **changes)
    first.train_epoch(train, validation)
    second = make(epochs=3, **changes)
    second.restore(first.save())
    assert second.epoch == 1
    for _ in range(2):
        second.train_epoch(train, validation)
    assert without_time(second.history) == without_time(whole.history)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], tensor), name


def test_the_best_epochs_plain_weights_are_in_the_checkpoint(
    train: list[Batch], validation: list[Batch]
):
    finetuner = make(lora_rank=2)
    finetuner.train_epoch(train, validation)
    groups, facts = unpack_state(finetuner.save())
    encoder = build_encoder(tiny_config().encoder)
    encoder.load_state_dict(groups["best"])
    images = to_images(validation[0][0])
    with torch.no_grad():
        torch.testing.assert_close(encoder.eval()(images), finetuner.mean.eval()(images))
    assert [record["epoch"] for record in facts["history"]] == [1]


def test_a_diverged_loss_stops_and_keeps_nothing(train: list[Batch], validation: list[Batch]):
    finetuner = make(lr=1e20)
    with pytest.raises(NotFiniteError, match="epoch 1"):
        finetuner.train_epoch(train, validation)
    assert finetuner.epoch == 0
    assert finetuner.best is None


def test_the_seed_decides_and_no_other_randomness(train: list[Batch], validation: list[Batch]):
    histories = []
    for seed, disturbance in ((0, 1), (0, 2), (1, 1)):
        finetuner = make(**{"run.seed": seed})
        torch.manual_seed(disturbance)
        finetuner.train_epoch(train, validation)
        histories.append(without_time(finetuner.history))
    assert histories[0] == histories[1] != histories[2]
