from __future__ import annotations

import json

import pytest
import torch
from open_clip import create_model
from safetensors.torch import save_file

from raffect.clip import weights as weights_module
from raffect.clip.encoder import (
    build_encoder,
    load_encoder,
    restore,
    to_images,
)
from raffect.clip.training import expression_loss
from raffect.config import EncoderConfig
from raffect.errors import NotThereError, RaffectError, SettingsError, StoreError
from raffect.store import Stage, Store, encoder_folder
from raffect.store.layout import CONFIG, ENCODER_WEIGHTS
from tests.clip.clip_data import to_bytes
from tests.clip.weights_data import give_tags, make_clip, save_clip

TINY = EncoderConfig(model="raffect-tiny", pretrained=None)
VIT = EncoderConfig(model="raffect-tiny-vit", pretrained=None)


def save(store: Store, name: str = "clip") -> torch.nn.Module:
    encoder = build_encoder(TINY).eval()
    stage = Stage(store, encoder_folder(name), "encoder", {}, {})
    parts = [
        stage.write_part(ENCODER_WEIGHTS, to_bytes(encoder)),
        stage.write_part(CONFIG, json.dumps(encoder.describe()).encode()),
    ]
    stage.finish(parts)
    return encoder


@pytest.mark.slow
def test_the_real_architecture_has_512_features_and_takes_a_step():
    encoder = build_encoder(EncoderConfig(model="ViT-B-16", pretrained=None))
    assert encoder.preprocessing.height == encoder.preprocessing.width == 224
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=1e-4)
    before = encoder.visual.conv1.weight.detach().clone()
    features = encoder.encode(torch.rand(2, 3, 224, 224))
    assert features.shape == (2, 512)
    loss = expression_loss(encoder.head(features), torch.tensor([0, 7]), torch.ones(8), 0.0)
    loss.backward()
    optimiser.step()
    assert torch.isfinite(loss)
    assert (encoder.visual.conv1.weight - before).abs().max() > 0


def test_the_seed_decides_the_random_weights():
    a, b, c = (build_encoder(TINY, seed=seed) for seed in (1, 1, 2))
    assert to_bytes(a) == to_bytes(b) != to_bytes(c)


def test_an_encoder_normalises_what_it_sees():
    encoder = build_encoder(TINY).eval()
    images = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (
        encoder.preprocessing.mean, encoder.preprocessing.std
    ))  # fmt: skip
    with torch.no_grad():
        torch.testing.assert_close(encoder.encode(images), encoder.visual((images - mean) / std))


def test_a_described_encoder_comes_back_with_its_function():
    config = VIT.model_copy(update={"image_size": 96})
    encoder = build_encoder(config, "prompt").eval()
    again = restore(json.loads(json.dumps(encoder.describe())), to_bytes(encoder)).eval()
    pixels = torch.randint(0, 256, (2, 96, 96, 3), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(again(to_images(pixels)), encoder(to_images(pixels)))
    assert again.config == config
    assert again.preprocessing == encoder.preprocessing


def test_an_encoder_of_0_1_is_built_again_as_it_was_tuned(tmp_path, monkeypatch):
    """Its description does not name the activation, and it computed with the architecture's."""
    give_tags(monkeypatch, save_clip(tmp_path, make_clip(quick_gelu=True)))
    encoder = build_encoder(VIT.model_copy(update={"pretrained": "openai"})).eval()
    description = encoder.describe()
    assert description["quick_gelu"]
    del description["quick_gelu"]
    del description["encoder"]["weights_of"]
    old = build_encoder(VIT).eval()
    old.load_state_dict(encoder.state_dict())
    again = restore(description, to_bytes(encoder)).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again.encode(images), old.encode(images))
        assert not torch.equal(again.encode(images), encoder.encode(images))


def test_a_prompt_head_starts_as_the_zero_shot_classifier():
    encoder = build_encoder(VIT, "prompt").eval()
    images = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        features = torch.nn.functional.normalize(encoder.encode(images), dim=-1)
        text = encoder.head.linear.weight / 100
        torch.testing.assert_close(encoder(images), 100 * features @ text.T)
    torch.testing.assert_close(text.norm(dim=1), torch.ones(8))


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_weights_come_from_a_local_file(tmp_path, ending: str):
    build_encoder(VIT)
    torch.manual_seed(5)
    clip = create_model(VIT.model)
    path = tmp_path / f"weights.{ending}"
    state = {k: v.contiguous() for k, v in clip.state_dict().items()}
    save_file(state, path) if ending == "safetensors" else torch.save(state, path)
    encoder = build_encoder(VIT.model_copy(update={"pretrained": str(path)}))
    assert torch.equal(encoder.visual.proj, clip.visual.proj)
    larger = VIT.model_copy(update={"pretrained": str(path), "image_size": 96})
    assert build_encoder(larger).visual.positional_embedding.shape == (6 * 6 + 1, 128)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"model": "ViT-B16"}, SettingsError, ["'ViT-B16'", "ViT-B-16"]),
        ({"model": "rafect-tiny"}, SettingsError, ["raffect-tiny"]),
        ({"model": "ViT-B-16", "pretrained": "opnai"}, SettingsError, ["opnai", "laion400m_e31"]),
        ({"pretrained": "openai"}, SettingsError, ["raffect-tiny", "no tags"]),
        ({"pretrained": "nowhere/x.pt"}, NotThereError, ["nowhere/x.pt", "does not exist"]),
        ({"pretrained": "JUNK"}, SettingsError, ["is no checkpoint"]),
        ({"pretrained": "OTHER"}, SettingsError, ["does not fit raffect-tiny"]),
    ],
)
def test_what_can_be_wrong_is_one_message(tmp_path, changes, error, says):
    (tmp_path / "junk.pt").write_bytes(b"junk")
    save_file({"visual.proj": torch.zeros(3)}, tmp_path / "other.safetensors")
    files = {"JUNK": "junk.pt", "OTHER": "other.safetensors"}
    if changes.get("pretrained") in files:
        changes = {"pretrained": str(tmp_path / files[changes["pretrained"]])}
    with pytest.raises(error) as caught:
        build_encoder(TINY.model_copy(update=changes))
    assert all(text in str(caught.value) for text in says)
    assert caught.value.next_step


def test_without_a_network_a_tag_is_one_message_at_once(monkeypatch, tmp_path):
    constants = weights_module.huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    config = EncoderConfig(model="ViT-B-32", pretrained="laion2b_s34b_b79k")
    with pytest.raises(NotThereError, match="can't be downloaded"):
        build_encoder(config)
    assert constants.HF_HUB_OFFLINE is False


def test_loading_checks_the_store(store: Store):
    with pytest.raises(NotThereError, match="raffect finetune"):
        load_encoder(store, "clip")
    encoder = save(store, "other")
    with pytest.raises(NotThereError, match="other"):
        load_encoder(store, "clip")
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(load_encoder(store, "other")(images), encoder(images))
    store.write_bytes(
        f"{encoder_folder('other')}/{ENCODER_WEIGHTS}", to_bytes(build_encoder(TINY, seed=9))
    )
    with pytest.raises(StoreError, match="damaged"):
        load_encoder(store, "other")
    store.delete(f"{encoder_folder('other')}/{ENCODER_WEIGHTS}")
    with pytest.raises(RaffectError, match="damaged"):
        load_encoder(store, "other")
