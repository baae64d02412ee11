from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from raffect.affwild2.folds import load_fold
from raffect.affwild2.labels import load_labels
from raffect.affwild2.tasks import Split, Task
from raffect.clip.encoder import build_encoder, load_encoder
from raffect.clip.finetune import adopt_ray_checkpoint, finetune
from raffect.clip.training import Finetuner
from raffect.errors import ConflictError, NotThereError, SettingsError
from raffect.store import DATASET, Store, read_manifest
from raffect.training.checkpoints import CheckpointFolder, unpack_state
from tests.clip.clip_data import tiny_config
from tests.clip.weights_data import give_tags, make_clip, save_clip

pytestmark = pytest.mark.ray


class InterruptionError(Exception):
    pass


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_it_learns_and_goes_on_after_an_interruption(
    ray_local: None, dataset: Store, workers: int
):
    config = tiny_config(epochs=3)
    seen: list[int] = []

    def interrupt(facts: dict[str, Any]) -> None:
        seen.append(facts["epoch"])
        raise InterruptionError

    with pytest.raises(InterruptionError):
        finetune(dataset, "clip", config, workers=workers, on_epoch=interrupt)
    with pytest.raises(NotThereError):
        load_encoder(dataset, "clip")
    manifest = finetune(
        dataset,
        "clip",
        config,
        workers=workers,
        on_epoch=lambda facts: seen.append(facts["epoch"]),
    )
    assert seen == [1, 2, 3]
    metrics = dataset.read_json("encoders/clip/metrics.json")
    assert [facts["epoch"] for facts in metrics["history"]] == [1, 2, 3]
    assert metrics["macro_f1"] == max(facts["macro_f1"] for facts in metrics["history"])
    assert metrics["macro_f1"] > 0.3
    assert metrics["frames"] == {"train": 144, "validation": 54}
    assert manifest.sources == {DATASET: read_manifest(dataset, DATASET).digest()}
    assert manifest.config == {**config.identity(), "workers": workers}
    assert dataset.names("encoders/clip") == [
        "config.json", "encoder.safetensors", "manifest.json", "metrics.json", "plan.json"
    ]  # fmt: skip
    assert load_encoder(dataset, "clip").dim == 64
    assert finetune(dataset, "clip", config, workers=workers) == manifest
    with pytest.raises(ConflictError, match="lr"):
        finetune(dataset, "clip", tiny_config(epochs=3, lr=1.0), workers=workers)


@pytest.mark.long
def test_a_fold_is_never_trained_on(ray_local: None, dataset: Store):
    manifest = finetune(dataset, "clip", tiny_config(epochs=1, fold="2/3"))
    assert manifest.config["fold"] == "2/3"
    labels = load_fold(dataset, Task.EXPR, "2/3")
    # 20 frames with a label, of which frame 3's is invalid and frame 7 has no crop.
    held = sum(of.split is Split.VALIDATION for of in labels.values())
    frames = {"train": 18 * (11 - held), "validation": 18 * held}
    assert dataset.read_json("encoders/clip/metrics.json")["frames"] == frames
    with pytest.raises(ConflictError, match=r'fold: "2/3" -> "1/3"'):
        finetune(dataset, "clip", tiny_config(epochs=1, fold="1/3"))
    with pytest.raises(SettingsError, match="too few for 12 folds"):
        finetune(dataset, "other", tiny_config(epochs=1, fold="1/12"))
    assert dataset.names("encoders") == ["clip"]


def test_weights_that_do_not_say_what_they_want_are_refused_before_anything_is_written(
    dataset: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = save_clip(tmp_path, make_clip())
    give_tags(monkeypatch)
    config = tiny_config(**{"encoder.pretrained": str(path)})
    with pytest.raises(SettingsError, match=r"encoder\.weights_of=TAG"):
        finetune(dataset, "clip", config)
    assert dataset.names("encoders/clip") == []


def test_a_checkpoint_that_ray_train_kept_is_adopted(store: Store):
    """As fine-tuning of raffect 0.1 left it: named in Ray Train's snapshot, groups before `:`."""
    config = tiny_config(epochs=3)
    rng = np.random.default_rng(0)
    batch = torch.from_numpy(rng.integers(0, 255, (16, 64, 64, 3), np.uint8)), torch.arange(16) % 8
    before = Finetuner(build_encoder(config.encoder), config, np.full(8, 2), steps=1)
    before.train_epoch([batch], [batch])
    groups, facts = unpack_state(before.save())
    flat = {f"{group}:{name}": t for group, own in groups.items() for name, t in own.items()}
    old = "encoders/clip/train"
    store.write_bytes(f"{old}/checkpoint_2/state.safetensors", save(flat))
    store.write_json(f"{old}/checkpoint_2/state.json", {"epoch": 1, "best": before.best, **facts})
    store.write_json(f"{old}/checkpoint_1/state.json", {})
    snapshot = {"latest_checkpoint_result": {"checkpoint_dir_name": "checkpoint_2"}}
    store.write_json(f"{old}/checkpoint_manager_snapshot.json", snapshot)

    checkpoints = CheckpointFolder(store, "encoders/clip/checkpoint")
    adopt_ray_checkpoint(store, "encoders/clip", checkpoints)
    after = Finetuner(build_encoder(config.encoder), config, np.full(8, 2), steps=1)
    assert checkpoints.restore_latest(after)
    assert store.names("encoders/clip") == ["checkpoint"]
    assert (after.epoch, after.history, after.best) == (1, before.history, before.best)
    records = [each.train_epoch([batch], [batch]) for each in (before, after)]
    assert records[0]["loss"] == records[1]["loss"]
    adopt_ray_checkpoint(store, "encoders/clip", checkpoints)
    assert store.names("encoders/clip") == ["checkpoint"]


@pytest.mark.long
def test_a_diverged_run_is_one_message_and_leaves_no_encoder(ray_local: None, dataset: Store):
    with pytest.raises(SettingsError, match="diverged") as caught:
        finetune(dataset, "clip", tiny_config(lr=1e20))
    assert "lr" in caught.value.next_step
    with pytest.raises(NotThereError):
        read_manifest(dataset, "encoders/clip")


@pytest.mark.parametrize(
    "changes",
    [{"encoder.model": "ViT-B16"}, {"encoder.pretrained": "openai"}, {"run.device": "cuda"}],
    ids=str,
)
def test_wrong_settings_leave_nothing_behind(
    ray_local: None, dataset: Store, changes: dict[str, Any]
):
    with pytest.raises(SettingsError):
        finetune(dataset, "clip", tiny_config(**changes))
    assert dataset.names("encoders") == []


def test_a_store_without_a_dataset_says_what_makes_one(store: Store):
    with pytest.raises(NotThereError, match="raffect prepare"):
        finetune(store, "clip", tiny_config())
    with pytest.raises(NotThereError):
        load_labels(store, Task.EXPR)
