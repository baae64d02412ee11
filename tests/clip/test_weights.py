"""Models that come with their own weights and preprocessing: of the hub, or a folder like one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from raffect.clip.encoder import build_encoder, restore
from raffect.config import EncoderConfig, FinetuneConfig
from raffect.errors import NotThereError, SettingsError
from raffect.settings import override
from tests.clip.clip_data import to_bytes
from tests.clip.weights_data import MODEL, make_clip

NAME = "hf-hub:someone/small"
PIXELS = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "interpolation": "bilinear",
          "resize_mode": "longest", "size": 64}  # fmt: skip


def write_repository(folder: Path, **changes: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    clip = make_clip(quick_gelu=True)
    architecture = {**open_clip.get_model_config(MODEL), "quick_gelu": True, **changes}
    found = {"model_cfg": architecture, "preprocess_cfg": PIXELS}
    (folder / "open_clip_config.json").write_text(json.dumps(found))
    state = {key: value.contiguous() for key, value in clip.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the snapshot of a repository in the hub's cache, without a network."""
    cache = tmp_path / "hub"
    place = cache / "models--someone--small"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("0" * 40)
    snapshot = place / "snapshots" / ("0" * 40)
    write_repository(snapshot)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return snapshot


@pytest.mark.parametrize("schema", ["hf-hub", "local-dir"])
def test_a_repository_is_built_as_open_clip_builds_it(hub: Path, schema: str):
    name = NAME if schema == "hf-hub" else f"local-dir:{hub}"
    theirs, _, _ = open_clip.create_model_and_transforms(name)
    encoder = build_encoder(EncoderConfig(model=name), guess=False).eval()
    seen = encoder.preprocessing
    assert (seen.mean, seen.std) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    assert (seen.interpolation, seen.resize_mode, seen.width) == ("bilinear", "longest", 64)
    images = torch.rand(2, 3, 64, 64)
    normalised = (images - encoder.mean) / encoder.std
    with torch.no_grad():
        assert torch.equal(encoder.encode(images), theirs.eval().visual(normalised))
    prompt = build_encoder(EncoderConfig(model=name), "prompt")
    assert torch.isfinite(prompt.head.linear.weight).all()


def test_its_encoder_comes_back_without_the_hub(hub: Path, monkeypatch):
    encoder = build_encoder(EncoderConfig(model=NAME, image_size=96)).eval()
    description = json.loads(json.dumps(encoder.describe()))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub / "nowhere"))
    again = restore(description, to_bytes(encoder)).eval()
    images = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(again.encode(images), encoder.encode(images))
    assert again.preprocessing == encoder.preprocessing
    assert again.describe() == encoder.describe()


def test_the_default_tag_does_not_collide(hub: Path):
    assert EncoderConfig(model=NAME).pretrained == NAME
    changed = override(FinetuneConfig(), {"encoder.model": NAME})
    assert changed.encoder.pretrained == NAME
    assert override(changed, {"lr": 1.0}).encoder.pretrained == NAME
    a, b = (build_encoder(EncoderConfig(model=NAME, pretrained=None), seed=s) for s in (1, 2))
    assert not torch.equal(a.visual.proj, b.visual.proj)
    assert a.preprocessing.mean == (0.5, 0.4, 0.3)
    assert a.describe()["quick_gelu"]


def test_another_file_has_the_repositorys_facts(hub: Path, tmp_path: Path):
    clip = make_clip(seed=9)
    torch.save(clip.state_dict(), tmp_path / "tuned.pt")
    config = EncoderConfig(model=NAME, pretrained=str(tmp_path / "tuned.pt"))
    encoder = build_encoder(config, guess=False)
    assert torch.equal(encoder.visual.proj, clip.visual.proj)
    assert encoder.preprocessing.mean == (0.5, 0.4, 0.3)
    with pytest.raises(SettingsError, match="does not apply"):
        build_encoder(config.model_copy(update={"weights_of": "plain"}))


def test_a_trunk_of_timm_takes_another_image_size(tmp_path: Path):
    tower = {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear",
             "image_size": 160}  # fmt: skip
    folder = tmp_path / "timm"
    write_repository(folder, vision_cfg=tower)
    for file in folder.glob("*.safetensors"):
        file.unlink()
    theirs = open_clip.create_model(f"local-dir:{folder}").eval()
    state = {key: value.contiguous() for key, value in theirs.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    config = EncoderConfig(model=f"local-dir:{folder}", image_size=96)
    encoder = build_encoder(config).eval()
    resized = open_clip.create_model(f"local-dir:{folder}").eval()
    resized.visual.set_input_size(96)
    images = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        want = resized.visual((images - encoder.mean) / encoder.std)
        torch.testing.assert_close(encoder.encode(images), want)
        again = restore(encoder.describe(), to_bytes(encoder)).eval()
        torch.testing.assert_close(again.encode(images), want)


def test_a_text_tower_of_hugging_face_is_not_needed_for_images(tmp_path: Path):
    folder = tmp_path / "roberta"
    write_repository(folder, text_cfg={"hf_model_name": "roberta-base", "hf_proj_type": "mlp"})
    config = EncoderConfig(model=f"local-dir:{folder}")
    encoder = build_encoder(config)
    assert torch.equal(encoder.visual.proj, make_clip(quick_gelu=True).visual.proj)
    with pytest.raises(SettingsError, match="no text tower"):
        build_encoder(config, "prompt")


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"model": "hf-hub:someone/else"}, NotThereError, ["hf-hub:someone/else", "cache"]),
        ({"model": "local-dir:nowhere"}, NotThereError, ["local-dir:nowhere"]),
        ({"model": NAME, "pretrained": "laion2b"}, SettingsError, ["'laion2b'", "its own"]),
        ({"model": MODEL, "pretrained": NAME}, SettingsError, [f"Give --model {NAME}"]),
        ({"model": MODEL, "pretrained": "."}, SettingsError, ["is a folder", "local-dir:."]),
        ({"model": "NO-WEIGHTS"}, NotThereError, ["no .safetensors"]),
        ({"model": "NO-CFG"}, SettingsError, ["no model_cfg"]),
        ({"model": "ODD"}, SettingsError, ["nearest"]),
        ({"model": "NEWER"}, SettingsError, ["no model that open_clip can build", "unheard_of"]),
    ],
)
def test_what_can_be_wrong_is_one_message(hub: Path, tmp_path: Path, changes, error, says):
    folder = tmp_path / "other"
    write_repository(folder)
    if changes["model"] == "NO-WEIGHTS":
        (folder / "open_clip_model.safetensors").unlink()
    elif changes["model"] == "NO-CFG":
        (folder / "open_clip_config.json").write_text("{}")
    elif changes["model"] == "NEWER":
        write_repository(folder, vision_cfg={"unheard_of": 1})
    elif changes["model"] == "ODD":
        odd = {"model_cfg": open_clip.get_model_config(MODEL),
               "preprocess_cfg": {**PIXELS, "interpolation": "nearest"}}  # fmt: skip
        (folder / "open_clip_config.json").write_text(json.dumps(odd))
    if changes["model"].isupper():
        changes = {"model": f"local-dir:{folder}"}
    with pytest.raises(error) as caught:
        build_encoder(EncoderConfig(**changes))
    assert all(words in str(caught.value) for words in says), str(caught.value)
    assert caught.value.next_step
