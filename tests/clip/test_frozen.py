"""CLIP as it is: an encoder that learnt nothing, and features without expression labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from raffect.affwild2.predictions import read_predictions
from raffect.affwild2.tasks import Split, Task
from raffect.cli.app import run
from raffect.clip import frozen
from raffect.clip.encoder import build_encoder, load_encoder
from raffect.clip.finetune import finetune
from raffect.clip.frozen import freeze
from raffect.config import FinetuneConfig
from raffect.context import Context
from raffect.errors import ConflictError, NotThereError, SettingsError
from raffect.settings import override
from raffect.store import Store, read_manifest
from tests.builders import RawTree
from tests.clip.clip_data import tiny_config

AS_IT_IS = tiny_config(epochs=0)


def test_the_encoder_is_the_one_that_was_asked_for_and_says_that_it_is_not_tuned(store: Store):
    notes: list[str] = []
    manifest = finetune(store, "clip", AS_IT_IS, context=Context(on_note=notes.append))
    assert manifest.counts == {"epochs": 0, "dim": 64}
    assert len(notes) == 1
    assert "not tuned" in notes[0]
    assert "head is untrained" in notes[0]
    assert store.read_json("encoders/clip/metrics.json")["tuned"] is False
    expected = build_encoder(AS_IT_IS.encoder).state_dict()
    found = load_encoder(store, "clip").state_dict()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_given_again_it_builds_nothing_and_only_the_encoder_counts(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    manifest = freeze(store, "clip", AS_IT_IS)
    monkeypatch.setattr(frozen, "build_encoder", None)
    assert freeze(store, "clip", override(AS_IT_IS, {"lr": 1.0, "batch_size": 3})) == manifest
    monkeypatch.undo()
    other = override(AS_IT_IS, {"encoder.image_size": 96})
    with pytest.raises(ConflictError, match="image_size"):
        freeze(store, "clip", other)
    assert freeze(store, "clip", other, Context(overwrite=True)).digest() != manifest.digest()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"encoder.model": "ViT-B16"}, SettingsError),
        ({"encoder.pretrained": "openai"}, SettingsError),
        ({"encoder.pretrained": "nowhere/x.pt"}, NotThereError),
    ],
)
def test_what_can_not_be_built_leaves_nothing_behind(store: Store, changes: dict, error: type):
    with pytest.raises(error):
        freeze(store, "clip", override(AS_IT_IS, changes))
    assert store.names("encoders") == []


def test_less_than_no_epochs_are_refused():
    with pytest.raises(SettingsError, match="epochs"):
        override(FinetuneConfig(), {"epochs": -1})


def test_an_encoder_of_the_store_and_a_new_one_are_not_asked_for_together(
    store: Store, capsys: pytest.CaptureFixture[str]
):
    both = ["extract", "--encoder", "clip", "--model", "raffect-tiny", "--store", store.uri]
    assert run(both) == 2
    assert "Leave out --encoder" in capsys.readouterr().err
    assert run(["extract", "--model", "raffect-tiny", "--store", store.uri]) == 2
    assert "raffect prepare" in capsys.readouterr().err
    assert store.names("encoders") == []


@pytest.mark.long
@pytest.mark.ray
def test_a_team_with_va_labels_alone_gets_to_a_model(
    ray_local: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    tree = RawTree(tmp_path)
    rng = np.random.default_rng(0)
    for number in range(5):
        split = Split.TRAIN if number < 3 else Split.VALIDATION
        tree.crops(f"v{number}", range(1, 9))
        rows = [f"{v:.3f},{a:.3f}" for v, a in rng.uniform(-1, 1, (9, 2))]
        tree.annotate(Task.VA, split, f"v{number}", rows)
    store = ["--store", str(tmp_path / "store")]
    images = ["--images", str(tree.root()), "--annotations", str(tree.annotations)]
    assert run(["prepare", *images, *store]) == 0
    tower = ["--model", "raffect-tiny", "--pretrained", "none"]
    assert run(["finetune", *tower, *store]) == 2
    assert "--set epochs=0" in capsys.readouterr().err
    size = ["--set", "encoder.image_size=96"]
    assert run(["extract", *tower, *size, "--name", "as-it-is", *store]) == 0
    assert "not tuned" in capsys.readouterr().out
    made = Store(str(tmp_path / "store"))
    assert load_encoder(made, "as-it-is").preprocessing.height == 96
    assert read_manifest(made, "features/as-it-is").counts == {"rows": 40, "dim": 64}
    small = ["--set", "optimiser.epochs=1", "--set", "model.transformer.layers=0"]
    assert run(["train", "va", "--features", "as-it-is", "--name", "m", *small, *store]) == 0
    out = tmp_path / "va.csv"
    frames = ["--frames", str(tree.root() / "v0"), "--out", str(out)]
    assert run(["predict", "m", *frames, *store]) == 0
    assert len(read_predictions(out, Task.VA)["v0"].frames) == 8
