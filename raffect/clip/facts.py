"""What pretrained weights expect of the model around them: the activation, and the pixels.

A file of weights says neither. For a tag, open_clip has both (its `get_pretrained_cfg`), but
builds GELU where the tag wants QuickGELU, and only warns.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast, get_args

import open_clip
from open_clip.transform import PreprocessCfg, merge_preprocess_dict

from raffect.clip.checkpoint import Checkpoint
from raffect.clip.images import Preprocessing, ResizeMode
from raffect.config import PLAIN, EncoderConfig
from raffect.errors import SettingsError
from raffect.store.layout import CONFIG, ENCODER_WEIGHTS

REPOSITORY_CONFIG = "open_clip_config.json"
"""Of a repository or folder that open_clip wrote: the architecture and the preprocessing."""
_SHOWN = 3
"""How many tags a message names for each of the facts."""
_INTERPOLATIONS = ("bicubic", "bilinear", "random")
_HF_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_HF_RESAMPLING = {2: "bilinear", 3: "bicubic"}
"""PIL's numbers, as Hugging Face's preprocessor_config.json has them."""
_WORDS = {"quick_gelu": "activation (GELU or QuickGELU)", "mean": "mean", "std": "std",
          "interpolation": "interpolation", "resize_mode": "way of resizing"}  # fmt: skip


class UnknownFactsError(SettingsError, UserWarning):
    """A warning that weights were taken for what they may not be, or the refusal to do so."""


@dataclass(frozen=True)
class Facts:
    """What weights were trained with; `quick_gelu`: x sigmoid(1.702 x) in place of GELU."""

    quick_gelu: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    resize_mode: ResizeMode

    def preprocessing(self, size: int | tuple[int, int]) -> Preprocessing:
        """The pixels that the weights expect at an image size (height and width)."""
        height, width = (size, size) if isinstance(size, int) else size
        return Preprocessing(
            height, width, self.mean, self.std, self.interpolation, self.resize_mode
        )


def facts_of(model_cfg: Mapping[str, Any], preprocess_cfg: Mapping[str, Any]) -> Facts:
    """The facts in open_clip's own terms: what `preprocess_cfg` leaves out is CLIP's.

    Raises:
        SettingsError: raffect has no such way to resize or to normalise.
    """
    merged = merge_preprocess_dict(PreprocessCfg(), dict(preprocess_cfg))
    mean, std = (
        tuple(map(float, value if isinstance(value, Iterable) else [value] * 3))
        for value in (merged["mean"], merged["std"])
    )
    known = merged["interpolation"] in _INTERPOLATIONS
    if not known or merged["resize_mode"] not in get_args(ResizeMode) or len(mean + std) != 6:
        raise SettingsError(
            f"These weights want a preprocessing that raffect does not have: {merged}.",
            f"interpolation {', '.join(_INTERPOLATIONS)}; resize_mode "
            f"{', '.join(get_args(ResizeMode))}; three values of mean and of std",
            "Use other weights.",
        )
    quick_gelu = bool(model_cfg.get("quick_gelu", False))
    mode = cast(ResizeMode, merged["resize_mode"])
    return Facts(quick_gelu, mean, std, merged["interpolation"], mode)


def facts_of_tag(model: str, architecture: Mapping[str, Any], tag: str) -> Facts:
    """What the weights of one of open_clip's tags were trained with."""
    pretrained = open_clip.get_pretrained_cfg(model, tag)
    # The tag of roberta-ViT-B-32 does not repeat what its architecture says.
    quick_gelu = any(part.get("quick_gelu", False) for part in (pretrained, architecture))
    return facts_of({"quick_gelu": quick_gelu}, pretrained)


def facts_of_file(
    config: EncoderConfig, architecture: Mapping[str, Any], checkpoint: Checkpoint
) -> tuple[Facts, UnknownFactsError | None]:
    """What a local file's weights were trained with, and what to say where that is not certain.

    Certain is what `weights_of` says, what a configuration beside the file says, that an archive
    of OpenAI is one (its buffers say so), and what all tags of the architecture agree on.
    """
    path, plain = checkpoint.path, facts_of(architecture, {})
    tags = {
        tag: facts_of_tag(config.model, architecture, tag)
        for tag in open_clip.list_pretrained_tags_by_model(config.model)
    }
    if config.weights_of is not None:
        of = config.weights_of
        return plain if of == PLAIN else facts_of_tag(config.model, architecture, of), None
    if checkpoint.from_openai:
        return tags.get("openai", replace(plain, quick_gelu=True)), None
    ours = _read_beside(path, CONFIG) if path.name == ENCODER_WEIGHTS else {}
    if ours.get("encoder", {}).get("model") == config.model:
        # An encoder of ours, which began to record two of the facts after 0.1.
        pixels = {"resize_mode": "squash", **ours["preprocessing"]}
        return facts_of({"quick_gelu": ours.get("quick_gelu", plain.quick_gelu)}, pixels), None
    beside = _read_beside(path, REPOSITORY_CONFIG)
    if _is_of(beside.get("model_cfg"), architecture):
        return facts_of(beside["model_cfg"], beside.get("preprocess_cfg") or {}), None
    possible = set(tags.values()) or {plain}
    if not any(facts.quick_gelu == plain.quick_gelu for facts in possible):
        # Nobody need have trained this architecture as its only tags did.
        possible |= {replace(facts, quick_gelu=plain.quick_gelu) for facts in possible}
    known = _hugging_face_facts(path)
    if "quick_gelu" in known:
        told = {facts for facts in possible if facts.quick_gelu == known["quick_gelu"]}
        possible = told or possible
    possible = {replace(facts, **known) for facts in possible}
    if len(possible) == 1:
        return possible.pop(), None
    taken = plain if plain in possible else min(possible, key=repr)
    return taken, _unknown(path, config.model, possible, tags)


def _unknown(
    path: Path, model: str, possible: set[Facts], tags: Mapping[str, Facts]
) -> UnknownFactsError:
    names = [field.name for field in fields(Facts)]
    differ = [name for name in names if len({getattr(each, name) for each in possible}) > 1]
    groups: dict[str, list[str]] = {}
    for tag, facts in tags.items():
        groups.setdefault(", ".join(_say(name, facts) for name in differ), []).append(tag)
    listed = "; ".join(
        f"{said}: {', '.join(group[:_SHOWN])}{', ...' if len(group) > _SHOWN else ''}"
        for said, group in groups.items()
    )
    return UnknownFactsError(
        f"The weights file {path} does not say what it was trained with, and weights of {model} "
        f"differ in it: {', '.join(_WORDS[name] for name in differ)}.",
        f"the tag whose weights they are or began as ({listed}), or {PLAIN} (as the architecture "
        "has it, with CLIP's mean and std)",
        f"Give --set encoder.weights_of=TAG, or put their {REPOSITORY_CONFIG} beside the file.",
    )


def _say(name: str, facts: Facts) -> str:
    value = getattr(facts, name)
    if name == "quick_gelu":
        return "QuickGELU" if value else "GELU"
    return (
        value if isinstance(value, str) else f"{name} {' '.join(f'{part:.3g}' for part in value)}"
    )


def _read_beside(path: Path, name: str) -> dict[str, Any]:
    try:
        found = json.loads((path.parent / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_of(model_cfg: Any, architecture: Mapping[str, Any]) -> bool:
    """Whether a configuration is of this architecture, its activation aside."""
    if not isinstance(model_cfg, dict) or not isinstance(model_cfg.get("vision_cfg"), dict):
        return False
    try:
        towers = [
            open_clip.CLIPVisionCfg(**{"timm_model_pretrained": False, **part["vision_cfg"]})
            for part in (model_cfg, architecture)
        ]
    except TypeError:
        return False
    return bool(towers[0] == towers[1]) and model_cfg.get("embed_dim") == architecture["embed_dim"]


def _hugging_face_facts(path: Path) -> dict[str, Any]:
    """What the files say that Hugging Face's CLIPModel was saved with."""
    if path.name not in _HF_WEIGHTS:
        return {}
    model, pixels = (
        _read_beside(path, name) for name in ("config.json", "preprocessor_config.json")
    )
    known: dict[str, Any] = {}
    if str(model.get("model_type", "")).startswith("clip"):
        # Their default, which the configuration may leave out.
        activation = (model.get("vision_config") or model).get("hidden_act", "quick_gelu")
        if activation in ("gelu", "quick_gelu"):
            known["quick_gelu"] = activation == "quick_gelu"
    for name, key in (("mean", "image_mean"), ("std", "image_std")):
        if isinstance(pixels.get(key), list):
            known[name] = tuple(map(float, pixels[key]))
    if pixels.get("resample") in _HF_RESAMPLING:
        known["interpolation"] = _HF_RESAMPLING[pixels["resample"]]
    if "size" in pixels:
        squashed = isinstance(pixels["size"], dict) and "shortest_edge" not in pixels["size"]
        known["resize_mode"] = "squash" if squashed else "shortest"
    return known
