"""Pretrained weights: where they come from, and open_clip's errors as messages for users."""

from __future__ import annotations

import json
import logging
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import open_clip
from open_clip import factory
from open_clip.factory import HF_HUB_PREFIX, LOCAL_DIR_PREFIX
from open_clip.pretrained import download_pretrained_from_hf

from raffect.clip.facts import REPOSITORY_CONFIG
from raffect.config import PLAIN, REPOSITORIES, EncoderConfig
from raffect.errors import NotThereError, RaffectError, SettingsError
from raffect.text import first_line

NETWORK_TIMEOUT_S = 10
_FILE_ENDINGS = (".safetensors", ".pt", ".pth", ".bin", ".npz")


def find_weights(config: EncoderConfig) -> str | Path | None:
    """What `pretrained` names: weights to fetch (a tag or a repository), a file, or nothing.

    Raises:
        SettingsError: It is neither a tag of this architecture nor looks like a file; or
            `weights_of` is none of its tags, or does not apply.
        NotThereError: It looks like a file, which is not there.
    """
    found = _find(config)
    tags = open_clip.list_pretrained_tags_by_model(config.model)
    given = config.weights_of
    if given is None:
        return found
    if not isinstance(found, Path) or is_repository(config.model):
        raise SettingsError(
            f"encoder.weights_of = {given!r} does not apply: what the weights of {config.model} "
            f"{config.pretrained or 'none (random weights)'} expect is known.",
            "encoder.weights_of with a local file as --pretrained",
            "Leave encoder.weights_of out.",
        )
    if given != PLAIN and not open_clip.is_pretrained_cfg(config.model, given):
        raise SettingsError(
            f"encoder.weights_of = {given!r}: {config.model} has no such tag.",
            f"{', '.join(tags) or 'no tags of open_clip'}; or {PLAIN}",
            "Give one of them with --set encoder.weights_of.",
        )
    return found


def _find(config: EncoderConfig) -> str | Path | None:
    name = config.pretrained
    own = is_repository(config.model)
    if name is None:
        return None
    if own and name in (config.model, EncoderConfig.model_fields["pretrained"].default):
        return config.model
    if open_clip.is_pretrained_cfg(config.model, name):
        return name
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if is_repository(name):
        raise SettingsError(
            f"--pretrained {name} is a repository, which has its own architecture.",
            "a tag of open_clip, a local file, or none",
            f"Give --model {name}, and leave --pretrained out.",
        )
    if path.is_dir():
        raise SettingsError(
            f"--pretrained {name} is a folder.",
            "a file of weights, a tag of open_clip, or none",
            f"Give a file; or --model local-dir:{name}, if {REPOSITORY_CONFIG} is in it.",
        )
    if path.suffix in _FILE_ENDINGS or "/" in name:
        raise NotThereError(
            f"The weights file {name} does not exist.",
            "a safetensors file or a PyTorch checkpoint, a tag of open_clip, or none",
            "Correct --pretrained.",
        )
    tags = ", ".join(open_clip.list_pretrained_tags_by_model(config.model))
    raise SettingsError(
        f"{config.model} has no pretrained weights {name!r}.",
        "its own; a local file; or none (random weights)"
        if own
        else f"{tags or 'no tags of open_clip'}; a local file; or none (random weights)",
        "Give one of them with --pretrained.",
    )


def is_repository(name: str) -> bool:
    """Whether a model's name is of a repository of the hub, or of a folder like one."""
    return name.startswith(REPOSITORIES)


def read_repository(name: str) -> dict[str, Any]:
    """The configuration of a repository: `model_cfg`, and mostly `preprocess_cfg`.

    Raises:
        NotThereError: There is no such repository, or it can't be reached and is not in the cache.
        SettingsError: It is none that open_clip wrote.
    """
    _, _, place = name.partition(":")
    try:
        if name.startswith(HF_HUB_PREFIX):
            with network_bounded():
                path = Path(download_pretrained_from_hf(place, filename=REPOSITORY_CONFIG))
        else:
            path = Path(place).expanduser() / REPOSITORY_CONFIG
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        model = found.get("model_cfg") if isinstance(found, dict) else None
        if isinstance(model, dict) and {"embed_dim", "vision_cfg", "text_cfg"} <= model.keys():
            return found
        what = "has no model_cfg with embed_dim, vision_cfg and text_cfg"
    except OSError as error:
        raise NotThereError(
            f"{name} has no {REPOSITORY_CONFIG} that can be read: {_short(first_line(error))}",
            "a repository that open_clip wrote: reached over the network, in the hub's cache, or "
            "as a folder",
            "Correct --model; or connect and run the command again.",
        ) from error
    except ValueError as error:
        what = f"is no JSON: {first_line(error)}"
    raise _not_built(name, what)


def _not_built(name: str, what: str) -> SettingsError:
    return SettingsError(
        f"{name} is no model that open_clip can build: its {REPOSITORY_CONFIG} {what}.",
        f"a {REPOSITORY_CONFIG} with model_cfg and preprocess_cfg",
        "Give another --model.",
    )


def fetch(config: EncoderConfig, weights: str | Path) -> Path:
    """The file of weights that `find_weights` found, downloaded if the cache lacks it.

    Raises:
        NotThereError: It can't be downloaded, or the repository has no weights.
    """
    if isinstance(weights, Path):
        return weights
    try:
        with network_bounded():
            if weights.startswith(HF_HUB_PREFIX):
                return Path(download_pretrained_from_hf(weights.removeprefix(HF_HUB_PREFIX)))
            if weights.startswith(LOCAL_DIR_PREFIX):
                folder = Path(weights.removeprefix(LOCAL_DIR_PREFIX)).expanduser()
                found = factory._find_checkpoint_in_dir(folder)
                if found is None:
                    raise FileNotFoundError("the folder has no .safetensors, .bin or .pth")
                return Path(found)
            tag = open_clip.get_pretrained_cfg(config.model, weights)
            return Path(factory.download_pretrained(tag))
    except MemoryError:
        raise
    except Exception as error:  # the clients of the hub raise what their layers raise
        why = _short(first_line(error))
        raise NotThereError(
            f"The weights {config.pretrained!r} of {config.model} can't be downloaded, "
            f"and are not in the cache: {why}",
            "a network that reaches huggingface.co, weights in its cache, or a local file",
            "Connect and run the command again; or fetch the file elsewhere: --pretrained FILE"
            + (" --set encoder.weights_of=" + weights if weights != config.model else "")
            + ".",
        ) from error


@contextmanager
def explained(config: EncoderConfig) -> Iterator[None]:
    """Turn what open_clip raises while it builds an architecture into one message."""
    try:
        with _no_logs():
            yield
    except (MemoryError, RaffectError):
        raise
    except Exception as error:
        if is_repository(config.model) and config.image_size is None:
            what = f"fails with {_short(first_line(error))}"
            raise _not_built(config.model, what) from error
        if config.image_size is None:
            raise
        raise SettingsError(
            f"{config.model} can't be built for images of {config.image_size} pixels: "
            f"{_short(first_line(error))}",
            "a size that the architecture's patches divide",
            "Leave encoder.image_size out, or give a multiple of the patch size.",
        ) from error


@contextmanager
def _no_logs() -> Iterator[None]:
    """open_clip logs to the root logger even the errors that it raises."""
    handler, before = logging.NullHandler(), logging.root.manager.disable
    logging.root.addHandler(handler)
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
        logging.root.removeHandler(handler)


@contextmanager
def network_bounded() -> Iterator[None]:
    """Fall back to the cache at once when the hub can't be reached; nothing is logged.

    Measured without a network: huggingface_hub retries for 46 s, its offline mode, after one
    request of ours, takes less than 1 s.
    """
    constants: Any = huggingface_hub.constants
    before, patience = constants.HF_HUB_OFFLINE, socket.getdefaulttimeout()
    if not before and not _reachable(constants.ENDPOINT):
        constants.HF_HUB_OFFLINE = True
    socket.setdefaulttimeout(NETWORK_TIMEOUT_S)
    try:
        with _no_logs():
            yield
    finally:
        constants.HF_HUB_OFFLINE = before
        socket.setdefaulttimeout(patience)


def _reachable(endpoint: str) -> bool:
    request = urllib.request.Request(endpoint, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=NETWORK_TIMEOUT_S).close()
    except OSError as error:
        return isinstance(error, urllib.error.HTTPError)
    return True


def _short(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:157]}..."
