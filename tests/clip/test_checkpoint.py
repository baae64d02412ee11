"""Weights files as people have them: loaded to the value, or refused with what they are."""

from __future__ import annotations

import argparse
import gzip
import os
import pickle
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from raffect.clip.encoder import build_encoder
from raffect.clip.tower import build_tower
from raffect.errors import SettingsError
from tests.clip.weights_data import MODEL, config, make_clip, save_archive

State = dict[str, Tensor]


def optimiser_of(clip: nn.Module) -> dict[str, Any]:
    optimiser = torch.optim.AdamW(clip.parameters())
    for parameter in clip.parameters():
        parameter.grad = torch.ones_like(parameter)
    with torch.no_grad():
        kept = {key: value.clone() for key, value in clip.state_dict().items()}
        optimiser.step()
        clip.load_state_dict(kept)
    return optimiser.state_dict()


def prefixed(state: State, prefix: str) -> State:
    return {f"{prefix}{key}": value for key, value in state.items()}


def visual(state: State) -> State:
    return {key: value for key, value in state.items() if key.startswith("visual.")}


CONTAINERS: dict[str, Callable[[State, nn.Module], object]] = {
    "plain": lambda state, clip: state,
    "open_clip's training": lambda state, clip: {
        "epoch": 3, "name": "x", "state_dict": prefixed(state, "module."),
        "optimizer": optimiser_of(clip),
    },
    "model_state_dict": lambda state, clip: {"model_state_dict": state, "epoch": 1},
    "model": lambda state, clip: {"model": state, "epoch": 1},
    "nested": lambda state, clip: {"checkpoint": {"net": state}},
    "compiled": lambda state, clip: prefixed(state, "_orig_mod."),
    "compiled, then wrapped": lambda state, clip: prefixed(state, "module._orig_mod."),
    "compiled below": lambda state, clip: {
        key.replace("visual.", "visual._orig_mod."): value for key, value in state.items()
    },
    "Lightning": lambda state, clip: {
        "state_dict": prefixed(state, "model.clip.") | {"head.weight": torch.ones(8, 64)},
        "pytorch-lightning_version": "2.1",
    },
    "NumPy beside": lambda state, clip: {
        "state_dict": state, "best": np.float64(0.4), "history": np.arange(3.0),
    },
    "arguments beside": lambda state, clip: {
        "model": state, "args": argparse.Namespace(lr=1e-4, name="x"),
    },
    "tower": lambda state, clip: visual(state),
    "bare tower": lambda state, clip: {
        key.removeprefix("visual."): value for key, value in visual(state).items()
    },
    "bare tower and classifier": lambda state, clip: {
        key.removeprefix("visual."): value for key, value in visual(state).items()
    } | {"fc.weight": torch.ones(8, 64)},
    "average beside": lambda state, clip: {
        "model": state, "model_ema": {key: value * 0 for key, value in state.items()},
    },
}  # fmt: skip


@pytest.fixture
def clip() -> nn.Module:
    return make_clip()


def same_tower(path: Path, clip: nn.Module, model: str = MODEL) -> bool:
    """Whether the file gives the encoder the model's features."""
    encoder = build_encoder(config(path, model=model), guess=False).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        return torch.equal(encoder.visual(images), clip.visual(images))


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("model", ["raffect-tiny-vit", "raffect-tiny"])
def test_containers_load_to_the_value(tmp_path, name: str, model: str):
    clip = make_clip(model=model)
    torch.save(CONTAINERS[name](clip.state_dict(), clip), tmp_path / "w.pt")
    assert same_tower(tmp_path / "w.pt", clip, model)


def test_formats_load_whatever_the_file_is_called(tmp_path, clip):
    state = clip.state_dict()
    torch.save(state, tmp_path / "w.safetensors")
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "w.pt")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for path in (*tmp_path.iterdir(), save_archive(tmp_path, make_clip())):
        assert same_tower(path, clip), path


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_cast(tmp_path, clip, dtype: torch.dtype):
    torch.save({key: value.to(dtype) for key, value in clip.state_dict().items()}, tmp_path / "w")
    tower = build_tower(config(tmp_path / "w"))
    for key, value in tower.clip.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, clip.state_dict()[key].to(dtype).float())


def hugging_face(clip: nn.Module, vision_only: bool = False) -> State:
    """open_clip's ViT as Hugging Face's CLIPModel names it, with its three projections."""
    found: State = {}

    def tower(theirs: str, ours: str, width: int) -> None:
        for key, value in clip.state_dict().items():
            if not key.startswith(f"{ours}transformer."):
                continue
            _, _, _, layer, rest = f"{'' if ours else '.'}{key}".split(".", 4)
            at = f"{theirs}.encoder.layers.{layer}."
            name = rest.replace("mlp.c_fc", "mlp.fc1").replace("mlp.c_proj", "mlp.fc2")
            name = name.replace("ln_", "layer_norm").replace("attn.out", "self_attn.out")
            if "in_proj" in name:
                kind = name.rpartition("_")[2]
                for part, piece in zip("qkv", value.split(width), strict=True):
                    found[f"{at}self_attn.{part}_proj.{kind}"] = piece
            else:
                found[at + name] = value

    def norm(theirs: str, ours: nn.Module) -> None:
        found[f"{theirs}.weight"], found[f"{theirs}.bias"] = ours.weight, ours.bias

    image = clip.visual
    found["vision_model.embeddings.class_embedding"] = image.class_embedding
    found["vision_model.embeddings.patch_embedding.weight"] = image.conv1.weight
    found["vision_model.embeddings.position_embedding.weight"] = image.positional_embedding
    found["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    norm("vision_model.pre_layrnorm", image.ln_pre)
    norm("vision_model.post_layernorm", image.ln_post)
    tower("vision_model", "visual.", 128)
    found["visual_projection.weight"] = image.proj.T
    if not vision_only:
        found["logit_scale"] = clip.logit_scale
        found["text_model.embeddings.token_embedding.weight"] = clip.token_embedding.weight
        found["text_model.embeddings.position_embedding.weight"] = clip.positional_embedding
        norm("text_model.final_layer_norm", clip.ln_final)
        tower("text_model", "", 64)
        found["text_projection.weight"] = clip.text_projection.T
    return {key: value.detach().clone().contiguous() for key, value in found.items()}


@pytest.mark.parametrize("vision_only", [False, True])
def test_hugging_faces_layout_loads_to_the_value(tmp_path, clip, vision_only: bool):
    with torch.no_grad():
        for parameter in clip.parameters():
            parameter.copy_(torch.randn(parameter.shape) / 10)
    state = hugging_face(clip, vision_only)
    save_file(state, tmp_path / "model.safetensors")
    assert same_tower(tmp_path / "model.safetensors", clip)
    tower = build_tower(config(tmp_path / "model.safetensors"))
    assert tower.has_text is not vision_only
    if not vision_only:
        want = clip.state_dict()
        assert all(torch.equal(value, want[key]) for key, value in tower.clip.state_dict().items())
    del state["visual_projection.weight"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(SettingsError, match="lacks proj of the image tower's"):
        build_tower(config(tmp_path / "model.safetensors"))


def test_a_prompt_head_needs_a_text_tower(tmp_path, clip):
    torch.save(visual(clip.state_dict()), tmp_path / "w.pt")
    build_encoder(config(tmp_path / "w.pt"))
    with pytest.raises(SettingsError, match="no text tower"):
        build_encoder(config(tmp_path / "w.pt"), "prompt")


class Thief:
    def __reduce__(self) -> Any:
        return os.mkdir, ("stolen",)


def write(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def zipped(folder: Path, name: str, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(folder / name, "w") as archive:
        for key, value in content.items():
            archive.writestr(key, value)
    return folder / name


NO_WEIGHTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "page": (b"\n<!doctype html><html>rate limited</html>", "is a web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
    "text": (b"Entry not found", "it is text, 'Entry not found'"),
    "json": (b'{"architectures": ["CLIPModel"]}', "is JSON text"),
    "gzip": (gzip.compress(b"weights"), "Unpack it"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "is HDF5"),
    "gguf": (b"GGUF" + bytes(64), "is GGUF"),
    "pickle": (pickle.dumps({"a": 1}, protocol=4), "a pickle that PyTorch did not write"),
    "bytes": (b"\x00\x01\x02\x03" * 99, "its format is not known"),
    "header": ((10**7).to_bytes(8, "little") + b'{"a":', "ends early"),
    "damaged": ((4).to_bytes(8, "little") + b"{{{{", "is damaged"),
}


@pytest.mark.parametrize("name", NO_WEIGHTS)
def test_what_is_no_checkpoint_is_called_what_it_is(tmp_path, name: str):
    content, says = NO_WEIGHTS[name]
    refuses(write(tmp_path, "w.pt", content), says)


def refuses(path: Path, *says: str, blames_model: bool = False) -> None:
    with pytest.raises(SettingsError) as caught:
        build_tower(config(path))
    message = str(caught.value)
    assert all(words in message for words in (str(path), *says)), message
    assert ("--model" in message) is blames_model


def test_archives_that_are_no_checkpoints(tmp_path, clip):
    refuses(zipped(tmp_path, "z.pt", {"a.txt": b"a"}), "zip archive without a checkpoint")
    torch.save(clip.state_dict(), tmp_path / "w.pt")
    whole = (tmp_path / "w.pt").read_bytes()
    refuses(write(tmp_path, "cut.pt", whole[: len(whole) // 2]), "ends early")
    save_file({"a": torch.zeros(9)}, tmp_path / "s")
    refuses(write(tmp_path, "cut.st", (tmp_path / "s").read_bytes()[:-4]), "damaged")
    np.savez(tmp_path / "a.npz", a=np.zeros(2))
    refuses(tmp_path / "a.npz", "arrays of big_vision", blames_model=True)
    torch.save({"epoch": 1}, tmp_path / "none.pt")
    refuses(tmp_path / "none.pt", "without named weights")


def test_nothing_that_a_file_holds_is_run(tmp_path, clip, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": clip.state_dict(), "args": Thief()}, tmp_path / "w.pt")
    refuses(tmp_path / "w.pt", "could run code", "mkdir", "save model.state_dict() alone")
    torch.save(clip, tmp_path / "whole.pt")
    refuses(tmp_path / "whole.pt", "open_clip.model.CLIP", "save model.state_dict() alone")
    script = pickle.dumps(Thief(), protocol=2)
    zipped(tmp_path, "s.pt", {"a/data.pkl": script, "a/constants.pkl": b"", "a/code/x.py": b""})
    refuses(tmp_path / "s.pt", "TorchScript archive that can't be read", "mkdir")
    assert not (tmp_path / "stolen").exists()


def test_weights_of_something_else_are_told_from_those_of_another_architecture(tmp_path, clip):
    def saved(state: State) -> Path:
        torch.save(state, tmp_path / "w.pt")
        return tmp_path / "w.pt"

    state = clip.state_dict()
    refuses(saved({"fc.weight": torch.ones(2)}), "no weight of an image tower, but fc.weight")
    less = {key: value for key, value in state.items() if "resblocks.3" not in key}
    refuses(saved(less), "lacks transformer.resblocks.3.ln_1.weight", blames_model=True)
    more = state | {"visual.transformer.resblocks.4.ln_1.weight": torch.ones(128)}
    refuses(saved(more), "no transformer.resblocks.4.ln_1.weight", blames_model=True)
    wide = state | {"visual.proj": torch.ones(128, 32)}
    refuses(saved(wide), "visual.proj is (128, 32)", "(128, 64)", blames_model=True)
    refuses(saved(state | {"visual.proj": torch.full((128, 64), torch.nan)}), "not finite")
    quantised = state | {"visual.proj": torch.ones(128, 64, dtype=torch.int8)}
    refuses(saved(quantised), "quantised (int8)")
    two = prefixed(visual(state), "student.") | prefixed(visual(state), "teacher.")
    refuses(saved(two), "several image towers: student.visual., teacher.visual.")
    torch.save({"student": state, "teacher": state}, tmp_path / "w.pt")
    refuses(tmp_path / "w.pt", "several models: student, teacher")
    save_file({"a": torch.ones(2)}, tmp_path / "flax", metadata={"format": "flax"})
    refuses(tmp_path / "flax", "holds weights of flax")


@pytest.mark.parametrize("model", ["raffect-tiny-vit", "raffect-tiny"])
def test_another_image_size_resizes_position_embeddings(tmp_path, model: str):
    clip = make_clip(model=model)
    torch.save({key: value.half() for key, value in clip.state_dict().items()}, tmp_path / "w.pt")
    encoder = build_encoder(config(tmp_path / "w.pt", model=model, image_size=96))
    assert encoder.preprocessing.width == 96
    assert encoder.encode(torch.rand(2, 3, 96, 96)).shape == (2, 64)


def test_a_large_file_that_is_no_checkpoint_is_not_read(tmp_path):
    with (tmp_path / "large.pt").open("wb") as file:
        file.truncate(40 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refuses(tmp_path / "large.pt", "its format is not known")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
