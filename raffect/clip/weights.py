"""Pretrained weights: where they come from, and open_clip's errors as messages for users."""

from __future__ import annotations

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

from raffect.config import EncoderConfig
from raffect.errors import NotThereError, SettingsError
from raffect.text import first_line

NETWORK_TIMEOUT_S = 10
_FILE_ENDINGS = (".safetensors", ".pt", ".pth", ".bin", ".npz")


def find_weights(config: EncoderConfig) -> str | Path | None:
    """What `pretrained` names: a tag of open_clip (text), a file (path), or nothing.

    Raises:
        SettingsError: It is neither a tag of this architecture nor looks like a file.
        NotThereError: It looks like a file, which is not there.
    """
    name = config.pretrained
    if name is None:
        return None
    if open_clip.is_pretrained_cfg(config.model, name):
        return name
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.suffix in _FILE_ENDINGS or "/" in name:
        raise NotThereError(
            f"The weights file {name} does not exist.",
            "a safetensors file or a PyTorch checkpoint, a tag of open_clip, or none",
            "Correct --pretrained.",
        )
    tags = ", ".join(open_clip.list_pretrained_tags_by_model(config.model))
    raise SettingsError(
        f"{config.model} has no pretrained weights {name!r}.",
        f"{tags or 'no tags of open_clip'}; a local file; or none (random weights)",
        "Give one of them with --pretrained.",
    )


@contextmanager
def explained(config: EncoderConfig, weights: str | Path | None) -> Iterator[None]:
    """Turn what open_clip raises while it builds an architecture into one message."""
    try:
        with _no_logs(), _bounded_network(weights):
            yield
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(weights, Path):
            raise _bad_file(config, weights, error) from error
        why = _short(first_line(error))
        is_download = isinstance(error, OSError) or "Failed to download" in str(error)
        if weights is not None and is_download:
            raise NotThereError(
                f"The weights {config.pretrained!r} of {config.model} can't be downloaded, "
                f"and are not in the cache: {why}",
                "a network that reaches huggingface.co, weights in its cache, or a local file",
                "Connect and give the command again; or fetch the file elsewhere: "
                "--pretrained FILE.",
            ) from error
        if config.image_size is not None:
            raise SettingsError(
                f"{config.model} can't be built for images of {config.image_size} pixels: {why}",
                "a size that the architecture's patches divide",
                "Leave encoder.image_size out, or give a multiple of the patch size.",
            ) from error
        raise


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
def _bounded_network(weights: str | Path | None) -> Iterator[None]:
    """Fall back to the cache at once when the hub can't be reached.

    Measured without a network: huggingface_hub retries for 46 s, its offline mode, after one
    request of ours, takes less than 1 s.
    """
    constants: Any = huggingface_hub.constants
    before, patience = constants.HF_HUB_OFFLINE, socket.getdefaulttimeout()
    if isinstance(weights, str) and not _reachable(constants.ENDPOINT):
        constants.HF_HUB_OFFLINE = True
    socket.setdefaulttimeout(NETWORK_TIMEOUT_S)
    try:
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


def _bad_file(config: EncoderConfig, path: Path, error: Exception) -> SettingsError:
    lines = str(error).splitlines()
    mismatch = "loading state_dict" in str(error) and len(lines) > 1
    what = f"does not fit {config.model}" if mismatch else "is no checkpoint that can be read"
    detail = lines[1].strip() if mismatch else first_line(error)
    return SettingsError(
        f"The weights file {path} {what}: {_short(detail)}",
        "a safetensors file or a PyTorch checkpoint (weights only) of the same architecture",
        "Give the --model that the weights belong to, or another file.",
    )


def _short(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:157]}..."
