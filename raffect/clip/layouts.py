"""The names that weights have in the files of others, brought to those of open_clip's model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from math import isqrt
from pathlib import Path
from types import SimpleNamespace

import torch
from open_clip.convert import convert_state_dict, load_big_vision_weights
from open_clip.model import resize_pos_embed, resize_text_pos_embed
from torch import Tensor, nn

from raffect.clip.checkpoint import Checkpoint, State, refused
from raffect.text import first_line

_SHOWN = 3
"""How many weights a message names."""
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""Levels that DistributedDataParallel, torch.compile, FSDP and checkpointing put into names."""
_TOWER = "visual."
_USUAL = ("", "state_dict", "model_state_dict", "model", "module", "net")
"""Where a file that holds several models has the one that is meant; before averages of it."""
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_HF_TOWERS = {"vision": _TOWER, "text": ""}
"""Of Hugging Face's CLIPModel (vision_model, text_model): open_clip's prefix."""
_HF_LAYER, _LAYER = r"encoder\.layers\.(\d+)\.", r"transformer.resblocks.\1."
_HF_NAMES = (
    (r"embeddings\.class_embedding", "class_embedding"),
    (r"embeddings\.patch_embedding\.weight", "conv1.weight"),
    (r"embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"embeddings\.token_embedding\.weight", "token_embedding.weight"),
    (r"pre_layrnorm\.(\w+)", r"ln_pre.\1"),
    (r"post_layernorm\.(\w+)", r"ln_post.\1"),
    (r"final_layer_norm\.(\w+)", r"ln_final.\1"),
    (rf"{_HF_LAYER}self_attn\.out_proj\.(\w+)", rf"{_LAYER}attn.out_proj.\2"),
    (rf"{_HF_LAYER}self_attn\.[qkv]_proj\.(\w+)", rf"{_LAYER}attn.in_proj_\2"),
    (rf"{_HF_LAYER}layer_norm(\d)\.(\w+)", rf"{_LAYER}ln_\2.\3"),
    (rf"{_HF_LAYER}mlp\.fc1\.(\w+)", rf"{_LAYER}mlp.c_fc.\2"),
    (rf"{_HF_LAYER}mlp\.fc2\.(\w+)", rf"{_LAYER}mlp.c_proj.\2"),
)


class _MisfitError(Exception):
    """What of a model does not fit the architecture; `matched` weights have its names."""

    def __init__(self, what: str, matched: int, next_step: str = "") -> None:
        super().__init__(what)
        self.matched = matched
        other = "Give the --model that the weights belong to, or another file."
        none = "Give a file with the weights of a CLIP model, or of its image tower."
        self.next_step = next_step or (other if matched else none)


def load_weights(clip: nn.Module, checkpoint: Checkpoint, name: str) -> bool:
    """Put a file's weights into the architecture `name`; whether they hold its text tower too.

    The image tower is loaded whole and to the value, or refused. Position embeddings of another
    image size are resized as open_clip does.

    Raises:
        SettingsError: It has no image tower, several, or that of another architecture.
    """
    path = checkpoint.path
    if checkpoint.is_arrays:
        return _load_big_vision(clip, path, name)
    fitting: dict[str, tuple[State, bool]] = {}
    misfits: list[_MisfitError] = []
    for place, state in checkpoint.models.items():
        try:
            fitting[place] = _fit(clip, state, name)
        except _MisfitError as misfit:
            misfits.append(misfit)
    if not fitting:
        nearest = max(misfits, key=lambda misfit: misfit.matched)
        raise refused(path, f"does not fit {name}: {nearest}", nearest.next_step)
    state, has_text = fitting[_choose(path, fitting)]
    clip.load_state_dict(state, strict=False)
    return has_text


def _load_big_vision(clip: nn.Module, path: Path, name: str) -> bool:
    try:
        load_big_vision_weights(clip, str(path))
    except Exception as error:  # it has no checks of its own: any error is a misfit
        what = f"(arrays of big_vision) does not fit {name}: {first_line(error)}"
        raise refused(path, what, "Give the --model that they belong to.") from error
    return True


def _choose(path: Path, fitting: dict[str, tuple[State, bool]]) -> str:
    for place in (*(usual for usual in _USUAL if usual in fitting), *fitting):
        if place in _USUAL or len(fitting) == 1:
            return place
    held = ", ".join(fitting)
    raise refused(path, f"holds several models: {held}", "Save the one that is meant alone.")


def _fit(clip: nn.Module, state: State, name: str) -> tuple[State, bool]:
    """A model's weights under the architecture's names, and whether its text tower is there."""
    wanted = clip.state_dict()
    tower, given = _below(_TOWER, wanted), list(state)
    state = _from_hugging_face(_without_wrappers(state, wanted))
    try:
        # Apple's own names of MobileCLIP; others are left as they are.
        state = convert_state_dict(clip, state)
    except Exception as error:
        raise _MisfitError(f"MobileCLIP's names, but {first_line(error)}", 0) from error
    prefix, matched = _find_prefix(state, tower)
    if not matched:
        raise _MisfitError(f"it holds no weight of an image tower, but {_listed(given)}", 0)
    own = _below(prefix, state)
    missing = [key for key in tower if key not in own and not key.endswith("num_batches_tracked")]
    if missing:
        what = f"it lacks {_listed(missing)} of the image tower's {len(tower)} weights"
        raise _MisfitError(what, matched)
    left = _left_over(own, tower, prefix)
    if left:
        raise _MisfitError(f"the architecture has no {_listed(left)}", matched)
    found = {f"{_TOWER}{key}": own[key] for key in tower if key in own}
    _check_values({key: value for key, value in found.items() if wanted[key].is_floating_point()})
    try:
        _resize_positions(found, clip)
    except (RuntimeError, LookupError) as error:
        what = f"its position embedding can't be resized: {first_line(error)}"
        raise _MisfitError(what, matched) from error
    _check_shapes(found, wanted, name, matched)
    text = _text_of(state, prefix.removesuffix(_TOWER), clip, wanted)
    return found | text, bool(text)


def _below(prefix: str, state: State) -> State:
    return {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }


def _without_wrappers(state: State, wanted: Iterable[str]) -> State:
    wrappers = _WRAPPERS - {level for key in wanted for level in key.split(".")}
    return {
        ".".join(level for level in key.split(".") if level not in wrappers): value
        for key, value in state.items()
    }


def _find_prefix(state: Iterable[str], tower: Iterable[str]) -> tuple[str, int]:
    """What stands before the tower's names in a file, and how many of them have it."""
    names = set(tower)
    seen: Counter[str] = Counter()
    for key in state:
        levels = key.split(".")
        for start in range(len(levels)):
            if ".".join(levels[start:]) in names:
                seen[key[: len(key) - len(".".join(levels[start:]))]] += 1
    most = max(seen.values(), default=0)
    best = [prefix for prefix, count in seen.items() if count == most]
    if _TOWER in best or not best:
        return _TOWER, most
    if len(best) > 1 and most == len(names):
        what = f"it holds several image towers: {', '.join(best)}"
        raise _MisfitError(what, most, "Save the one that is meant alone.")
    return min(best, key=len), most


def _left_over(own: State, tower: State, prefix: str) -> list[str]:
    """What a file's tower has and the architecture has not.

    A tower without a prefix shares its level with what it was trained with, e.g. a classifier.
    """
    levels = {key.split(".")[0] for key in tower}
    return [
        key
        for key in own
        if key not in tower
        and not key.endswith("position_ids")
        and (prefix.endswith(_TOWER) or key.split(".")[0] in levels)
    ]


def _listed(keys: list[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more


def _resize_positions(found: State, clip: nn.Module) -> None:
    key, pool = f"{_TOWER}positional_embedding", f"{_TOWER}attnpool.positional_embedding"
    if key in found:
        found[key] = found[key].float()
        resize_pos_embed(found, clip)
    elif pool in found:
        # A ResNet's pool has the same embedding, which open_clip does not resize.
        cells = len(clip.get_parameter(pool)) - 1
        held = {key: found[pool].float()}
        resize_pos_embed(held, SimpleNamespace(visual=SimpleNamespace(grid_size=isqrt(cells))))
        found[pool] = held[key]


def _check_values(found: State) -> None:
    quantised = [key for key, value in found.items() if value.dtype not in _FLOATS]
    if quantised:
        kind = str(found[quantised[0]].dtype).removeprefix("torch.")
        what = f"{_listed(quantised)} are quantised ({kind})"
        raise _MisfitError(what, len(found), "Give weights of float32, float16 or bfloat16.")
    broken = [key for key, value in found.items() if not bool(torch.isfinite(value).all())]
    if broken:
        what = f"{_listed(broken)} hold values that are not finite"
        raise _MisfitError(what, len(found), "Give an earlier checkpoint of that training.")


def _check_shapes(found: State, wanted: State, name: str, matched: int) -> None:
    shapes = [key for key, value in found.items() if value.shape != wanted[key].shape]
    if shapes:
        got, own = (tuple(tensors[shapes[0]].shape) for tensors in (found, wanted))
        others = f", and {len(shapes) - 1} more differ" if len(shapes) > 1 else ""
        raise _MisfitError(f"{shapes[0]} is {got}, that of {name} {own}{others}", matched)


def _text_of(state: State, root: str, clip: nn.Module, wanted: State) -> State:
    """The text tower's weights and the scale; nothing where they are not whole."""
    names = [key for key in wanted if not key.startswith(_TOWER)]
    rest = _below(root, state)
    whole = {}
    for key in names:
        # One class of open_clip has the text tower at the top, the other in a module of its own.
        value = rest.get(key, rest.get(f"text.{key}", rest.get(key.removeprefix("text."))))
        if key.startswith("logit_"):
            # A scalar or one value, and not of the tower.
            held = wanted[key] if value is None else value
            value = held.reshape(wanted[key].shape) if held.numel() == 1 else wanted[key]
        if value is None:
            return {}
        whole[key] = value
    key = next((key for key in names if key.endswith("positional_embedding")), "")
    if key and whole[key].shape[1:] == wanted[key].shape[1:]:
        whole[key] = whole[key].float()
        resize_text_pos_embed(whole, clip)
    fits = all(value.shape == wanted[key].shape for key, value in whole.items())
    return whole if fits else {}


def _from_hugging_face(state: State) -> State:
    """Weights of Hugging Face's CLIPModel, or of its vision model, under OpenAI's names."""
    found: State = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        part, _, inner = key.rpartition("_model.")
        prefix = _HF_TOWERS.get(part.rpartition(".")[2])
        own = None if prefix is None else prefix + _openai_name(inner)
        if own is not None and "_proj_" in own:
            parts.setdefault(own, {})[inner.rpartition("_proj.")[0][-1]] = value
        else:
            found[own or key] = value
    if not parts:
        return state
    # One matrix for queries, keys and values, in this order.
    found |= {
        key: torch.cat([three[part] for part in "qkv"])
        for key, three in parts.items()
        if len(three) == len("qkv")
    }
    for tower, name in (("visual", f"{_TOWER}proj"), ("text", "text_projection")):
        held = next((key for key in found if key.endswith(f"{tower}_projection.weight")), None)
        if held is not None:
            found[name] = found.pop(held).T
    return found


def _openai_name(inner: str) -> str:
    for pattern, name in _HF_NAMES:
        match = re.fullmatch(pattern, inner)
        if match is not None:
            return match.expand(name)
    return inner
