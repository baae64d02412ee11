"""What weights were trained with: open_clip's own transforms and models are what is right."""

from __future__ import annotations

import io
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from huggingface_hub import constants
from open_clip import factory, pretrained
from PIL import Image
from torch import nn

from raffect.clip import tower as tower_module
from raffect.clip.encoder import build_encoder
from raffect.clip.facts import UnknownFactsError
from raffect.clip.images import decode
from raffect.clip.tower import build_tower
from raffect.config import EncoderConfig
from raffect.errors import SettingsError
from tests.clip.clip_data import to_bytes
from tests.clip.weights_data import (
    MODEL,
    TAGS,
    config,
    give_tags,
    make_clip,
    save_archive,
    save_clip,
)

QUICK = {
    "RN50": {"openai", "yfcc15m", "cc12m"},
    "RN101": {"openai", "yfcc15m"},
    "RN50x4": {"openai"},
    "RN50x16": {"openai"},
    "RN50x64": {"openai"},
    "ViT-B-32": {
        "openai", "laion400m_e31", "laion400m_e32", "metaclip_400m", "metaclip_fullcc"
    },
    "ViT-B-16": {"openai", "dfn2b", "metaclip_400m", "metaclip_fullcc"},
    "ViT-L-14": {"openai", "metaclip_400m", "metaclip_fullcc", "dfn2b"},
    "ViT-L-14-336": {"openai"},
    "ViT-H-14": {"metaclip_fullcc", "dfn5b"},
    "ViT-H-14-378": {"dfn5b"},
    "ViT-H-14-worldwide": {"metaclip2_worldwide"},
    "ViT-bigG-14": {"metaclip_fullcc"},
    # Its architecture says so, and its tag does not repeat it.
    "roberta-ViT-B-32": {"laion2b_s12b_b32k"},
}  # fmt: skip
"""The tags that need QuickGELU, of architectures whose names do not end in -quickgelu."""


class Recorder(nn.Module):
    """Takes the place of open_clip's models, of which 196 would take minutes to build."""

    def __init__(
        self, embed_dim: int, vision_cfg: dict[str, Any], text_cfg: object, **rest: Any
    ) -> None:
        super().__init__()
        self.quick_gelu = rest.get("quick_gelu", False)
        self.visual = nn.Module()
        self.visual.image_size = vision_cfg["image_size"]


def test_every_pair_of_open_clip_gets_what_its_tag_says(monkeypatch):
    for name in ("CLIP", "CustomTextCLIP", "CoCa"):
        monkeypatch.setattr(factory, name, Recorder)
    monkeypatch.setattr(factory, "download_pretrained", lambda tag, cache_dir=None: "there")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(tower_module, "read_checkpoint", lambda path: None)
    pairs = open_clip.list_pretrained()
    assert len(pairs) >= 196
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    compared = set()
    for model, tag in pairs:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, _, theirs = open_clip.create_model_and_transforms(
                model, tag, load_weights=False, pretrained_text=False
            )
        tower = build_tower(EncoderConfig(model=model, pretrained=tag))
        quick = model.endswith("-quickgelu") or tag in QUICK.get(model, ())
        assert tower.clip.quick_gelu is tower.quick_gelu is quick, (model, tag)
        seen = tower.preprocessing
        normalise = theirs.transforms[-1]
        assert (seen.mean, seen.std) == (tuple(normalise.mean), tuple(normalise.std))
        if seen not in compared:
            compared.add(seen)
            mean, std = (torch.tensor(values).view(3, 1, 1) for values in (seen.mean, seen.std))
            got = torch.tensor(decode(buffer.getvalue(), seen)).permute(2, 0, 1) / 255
            want = theirs(Image.fromarray(pixels))
            assert want.shape == (3, seen.height, seen.width)
            torch.testing.assert_close((got - mean) / std, want, atol=1e-5, rtol=0)
    assert len(compared) > 10


@pytest.mark.parametrize("tag", TAGS)
def test_a_tag_and_a_file_of_it_give_the_features_of_open_clip(tmp_path, monkeypatch, tag: str):
    theirs = make_clip(TAGS[tag].get("quick_gelu", False))
    path = save_clip(tmp_path, theirs)
    give_tags(monkeypatch, path)
    images = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(TAGS[tag][key]).view(3, 1, 1) for key in ("mean", "std"))
    for given in (config(tag), config(path, weights_of=tag), config(path, weights_of=tag.upper())):
        encoder = build_encoder(given, guess=False).eval()
        with torch.no_grad():
            torch.testing.assert_close(
                encoder.encode(images), theirs.visual((images - mean) / std)
            )
        assert encoder.preprocessing.resize_mode == TAGS[tag]["resize_mode"]
        assert encoder.preprocessing.interpolation == TAGS[tag]["interpolation"]
        assert encoder.describe()["quick_gelu"] is TAGS[tag].get("quick_gelu", False)


def test_a_prompt_head_has_the_text_features_of_the_tag(tmp_path, monkeypatch):
    theirs, other = make_clip(quick_gelu=True), make_clip()
    give_tags(monkeypatch, save_clip(tmp_path, theirs))
    prompt = ["a photo of a face with an angry expression"]
    tokens = open_clip.get_tokenizer(MODEL)(prompt)
    got = build_encoder(config("openai"), "prompt").head.linear.weight[1] / 100
    with torch.no_grad():
        torch.testing.assert_close(got, theirs.encode_text(tokens, normalize=True)[0])
        assert not torch.allclose(got, other.encode_text(tokens, normalize=True)[0], atol=1e-5)


def test_what_a_file_does_not_say_is_told_or_refused(tmp_path, monkeypatch):
    path = save_clip(tmp_path, make_clip())
    give_tags(monkeypatch)
    with pytest.warns(UnknownFactsError, match="GELU or QuickGELU") as told:
        build_encoder(config(path))
    with pytest.raises(SettingsError) as caught:
        build_encoder(config(path), guess=False)
    assert str(caught.value) == str(told[0].message)
    for words in ("way of resizing", "QuickGELU, mean 0.481 0.458 0.408", ": openai; GELU, mean",
                  "plain", "encoder.weights_of=TAG"):  # fmt: skip
        assert words in str(caught.value)
    torch.save({"visual.proj": torch.zeros(3)}, path)
    with pytest.raises(SettingsError, match="it lacks"):
        build_encoder(config(path), guess=False)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"pretrained": "FILE", "weights_of": "opnai"}, ["'opnai'", "openai, laion", "plain"]),
        ({"pretrained": None, "weights_of": "openai"}, ["does not apply", "Leave"]),
        ({"pretrained": "laion", "weights_of": "openai"}, ["does not apply", "Leave"]),
    ],
)
def test_a_wrong_weights_of_is_one_message(tmp_path, monkeypatch, given, says):
    path = save_clip(tmp_path, make_clip())
    give_tags(monkeypatch)
    if given["pretrained"] == "FILE":
        given = {**given, "pretrained": str(path)}
    with pytest.raises(SettingsError) as caught:
        build_encoder(EncoderConfig(model=MODEL, **given))
    assert all(words in str(caught.value) for words in says)


def quick_of(given: EncoderConfig) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return build_tower(given, guess=False).quick_gelu


def test_plain_is_the_architecture_as_it_is(tmp_path, monkeypatch):
    path = save_clip(tmp_path, make_clip())
    give_tags(monkeypatch)
    tower = build_tower(config(path, weights_of="plain"), guess=False)
    assert not tower.quick_gelu
    assert tower.preprocessing.mean == open_clip.OPENAI_DATASET_MEAN


def test_what_all_tags_agree_on_is_certain(tmp_path, monkeypatch):
    path = save_clip(tmp_path, make_clip())
    monkeypatch.setitem(pretrained._PRETRAINED, MODEL, {"a": TAGS["siglip"], "b": TAGS["siglip"]})
    tower = build_tower(config(path), guess=False)
    assert tower.preprocessing.mean == (0.5, 0.5, 0.5)
    # But that all of them have QuickGELU does not say that another's weights have.
    monkeypatch.setitem(pretrained._PRETRAINED, MODEL, {"a": TAGS["openai"]})
    with pytest.raises(UnknownFactsError, match="activation"):
        quick_of(config(path))


def test_an_architecture_without_tags_leaves_nothing_open(tmp_path):
    assert quick_of(config(save_clip(tmp_path, make_clip()))) is False


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_a_configuration_beside_the_file_says_it(tmp_path, monkeypatch, quick_gelu: bool):
    path = save_clip(tmp_path, make_clip())
    give_tags(monkeypatch)
    architecture = open_clip.get_model_config(MODEL)
    found: dict[str, Any] = {
        "model_cfg": {**architecture, "quick_gelu": quick_gelu},
        "preprocess_cfg": {"mean": [0.1, 0.2, 0.3], "resize_mode": "longest"},
    }
    (tmp_path / "open_clip_config.json").write_text(json.dumps(found))
    tower = build_tower(config(path), guess=False)
    assert tower.quick_gelu is quick_gelu
    assert tower.preprocessing.mean == (0.1, 0.2, 0.3)
    assert tower.preprocessing.resize_mode == "longest"
    # That of another model, which happens to lie there, says nothing.
    found["model_cfg"]["vision_cfg"]["layers"] = 5
    (tmp_path / "open_clip_config.json").write_text(json.dumps(found))
    with pytest.raises(UnknownFactsError):
        quick_of(config(path))


@pytest.mark.parametrize(
    ("model", "quick"),
    [
        ({"model_type": "clip", "vision_config": {"hidden_act": "gelu"}}, False),
        ({"model_type": "clip", "vision_config": {}}, True),
        ({"model_type": "clip_vision_model", "hidden_act": "quick_gelu"}, True),
    ],
)
def test_hugging_faces_files_say_it(tmp_path, monkeypatch, model: dict[str, Any], quick: bool):
    path = save_clip(tmp_path, make_clip(), "pytorch_model.bin")
    give_tags(monkeypatch)
    (tmp_path / "config.json").write_text(json.dumps(model))
    pixels = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 2,
              "size": {"height": 64, "width": 64}}  # fmt: skip
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(pixels))
    tower = build_tower(config(path), guess=False)
    assert tower.quick_gelu is quick
    seen = tower.preprocessing
    assert (seen.mean, seen.interpolation, seen.resize_mode) == ((0.5,) * 3, "bilinear", "squash")


@pytest.mark.parametrize("of_0_1", [False, True])
def test_an_encoder_of_ours_says_it(tmp_path, monkeypatch, of_0_1: bool):
    give_tags(monkeypatch, save_clip(tmp_path, make_clip()))
    encoder = build_encoder(config("mobile" if of_0_1 else "openai"))
    description = json.loads(json.dumps(encoder.describe()))
    if of_0_1:
        del description["quick_gelu"], description["preprocessing"]["resize_mode"]
    (tmp_path / "config.json").write_text(json.dumps(description))
    (tmp_path / "encoder.safetensors").write_bytes(to_bytes(encoder))
    tower = build_tower(config(tmp_path / "encoder.safetensors"), guess=False)
    assert tower.quick_gelu is not of_0_1
    mode = "squash" if of_0_1 else "shortest"
    assert tower.preprocessing == replace(encoder.preprocessing, resize_mode=mode)


def test_an_archive_of_openai_is_recognised(tmp_path, monkeypatch):
    clip = make_clip(quick_gelu=True)
    path = save_archive(tmp_path, clip, ("input_resolution", "context_length", "vocab_size"))
    give_tags(monkeypatch)
    tower = build_tower(config(path), guess=False)
    assert tower.quick_gelu
    assert torch.equal(tower.visual.proj, clip.visual.proj)


def test_the_setting_leaves_the_identity_of_earlier_work(tmp_path: Path):
    assert "weights_of" not in EncoderConfig().identity()
    assert config("x.pt", weights_of="openai").identity()["weights_of"] == "openai"
