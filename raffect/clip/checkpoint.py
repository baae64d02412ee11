"""Weights files as people have them, read to named tensors without running what they hold.

What a file is, its first bytes say, whatever its name: no other file is loaded, however large.
Files are mapped into memory, so that of a large checkpoint only what is used is read.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from raffect.errors import SettingsError
from raffect.text import first_line

State = dict[str, Tensor]

_PIECE = 1024
"""Bytes by which a format is recognised."""
_LARGEST_HEADER = 100_000_000
"""Of a safetensors file, in bytes; the format's own limit."""
_DEPTH = 3
"""How deep a checkpoint's models are looked for, in dictionaries within dictionaries."""
_AGAIN = "Fetch the file again."
_LEGACY = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
"""What a PyTorch checkpoint begins with that was saved before 1.6, or without zip."""
_OTHERS = (
    (b"version https://git-lfs", "is a pointer of Git LFS, not the weights",
     "Fetch the weights themselves: git lfs pull."),
    (b"<", "is a web page: what it was fetched from sent a page instead of the file", _AGAIN),
    (b"{", "is JSON text, no weights", "Give the weights that it describes."),
    (b"\x89HDF", "is HDF5, as TensorFlow writes it", "Give weights of PyTorch."),
    (b"GGUF", "is GGUF, whose weights are quantised", "Give weights of PyTorch."),
    (b"\x1f\x8b", "is compressed with gzip", "Unpack it first."),
    (b"\x80", "is a pickle that PyTorch did not write",
     "Save model.state_dict() with torch.save or as safetensors."),
)  # fmt: skip
_ARRAYS: Any = importlib.import_module("numpy._core.multiarray")
_HARMLESS: list[Any] = [
    # What checkpoints of training hold beside the weights; none of it can run anything.
    *(
        (getattr(_ARRAYS, name), f"numpy.{core}.multiarray.{name}")
        for name in ("scalar", "_reconstruct")
        for core in ("core", "_core")
    ),
    *(type(np.dtype(code)) for code in "?bBhHiIlLqQefdg"),
    np.ndarray,
    np.dtype,
    argparse.Namespace,
]
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


@dataclass(frozen=True)
class Checkpoint:
    """What a weights file holds: `models` by their place in it, each tensors by name.

    `from_openai`: it is one of the archives that OpenAI published (Radford et al. 2021).
    `is_arrays`: it is an archive of NumPy arrays, as Google's SigLIP weights are (big_vision).
    """

    path: Path
    models: dict[str, State]
    from_openai: bool = False
    is_arrays: bool = False


def refused(path: Path, what: str, next_step: str = "") -> SettingsError:
    """The error for a weights file that can't be used."""
    return SettingsError(
        f"The weights file {path} {what}.",
        "safetensors, a PyTorch checkpoint or a TorchScript archive, its weights named as "
        "open_clip, OpenAI or Hugging Face's CLIP name them",
        next_step or "Give another file.",
    )


def read_checkpoint(path: Path) -> Checkpoint:
    """The models of a weights file, as tensors that are read when they are used.

    Raises:
        SettingsError: It is no checkpoint, or one that can't be read safely; says what it is.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_PIECE)
            if _holds_safetensors(path, head, path.stat().st_size):
                return _checked(path, {"": _read_safetensors(path)})
        if head.startswith(b"PK\x03\x04"):
            return _read_zip(path)
        if head.startswith(_LEGACY):
            return _checked(path, _find_models(_load_torch(path, mapped=False)))
    except OSError as error:
        raise refused(path, f"can't be read: {first_line(error)}") from error
    if not head:
        raise refused(path, "is empty", _AGAIN)
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for magic, what, next_step in _OTHERS:
        if start.startswith(magic):
            raise refused(path, what, next_step)
    text = start.decode("ascii", "replace")
    known = (
        f"it is text, {first_line(text)[:60]!r}"
        if text.isprintable()
        else "its format is not known"
    )
    raise refused(path, f"is no checkpoint that can be read: {known}")


def _checked(path: Path, models: dict[str, State]) -> Checkpoint:
    if not models:
        raise refused(path, "is a checkpoint without named weights")
    return Checkpoint(path, models)


def _holds_safetensors(path: Path, head: bytes, size: int) -> bool:
    length = int.from_bytes(head[:8], "little")
    if len(head) < 9 or head[8:9] != b"{" or length > _LARGEST_HEADER:
        return False
    if 8 + length > size:
        raise refused(path, "is safetensors that ends early", _AGAIN)
    return True


def _read_safetensors(path: Path) -> State:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            made_by = json.loads(file.read(length)).get("__metadata__", {}).get("format", "pt")
        except (ValueError, AttributeError) as error:
            raise refused(path, "is damaged: its header is no JSON", _AGAIN) from error
    if made_by != "pt":
        # TensorFlow, Flax and MLX order the axes of the same weights in other ways.
        raise refused(path, f"holds weights of {made_by}", "Give weights of PyTorch.")
    try:
        return load_file(path)
    except Exception as error:  # safetensors raises a class of its own for each kind of damage
        raise refused(path, f"is damaged: {first_line(error)}", _AGAIN) from error


def _read_zip(path: Path) -> Checkpoint:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if names and all(name.endswith(".npy") for name in names):
                return Checkpoint(path, {}, is_arrays=True)
            pickles = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
            if len(pickles) != 1:
                raise refused(path, "is a zip archive without a checkpoint")
            root = pickles[0].rpartition("/")[0]
            if f"{root}/constants.pkl" not in names:
                return _checked(path, _find_models(_load_torch(path, mapped=True)))
            state = dict(_tensors(_ScriptUnpickler(archive, root).load()))
    except (zipfile.BadZipFile, EOFError) as error:
        raise refused(path, f"is damaged or ends early: {first_line(error)}", _AGAIN) from error
    except (pickle.UnpicklingError, LookupError, TypeError, ValueError, RuntimeError,
            AttributeError) as error:  # fmt: skip
        what = f"is a TorchScript archive that can't be read: {first_line(error)}"
        raise refused(path, what) from error
    if not state:
        raise refused(path, "is a TorchScript archive without weights")
    own = [state.pop(key, None) for key in ("input_resolution", "context_length", "vocab_size")]
    return Checkpoint(path, {"": state}, from_openai=all(value is not None for value in own))


def _load_torch(path: Path, mapped: bool) -> Any:
    try:
        # By a path, torch.load decides by the name's ending; only by a path it maps into memory.
        by_path = mapped and path.suffix != ".safetensors"
        with torch.serialization.safe_globals(_HARMLESS), path.open("rb") as file:
            source: Any = path if by_path else file
            return torch.load(source, map_location="cpu", weights_only=True, mmap=by_path)
    except pickle.UnpicklingError as error:
        unsafe: list[str] = []
        if mapped:
            with torch.serialization.safe_globals(_HARMLESS):
                unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        held = f" ({', '.join(sorted(unsafe)[:3])})" if unsafe else ""
        raise refused(
            path,
            f"holds Python objects{held} beside its weights, and loading them could run code",
            "Load it where it was made, and save model.state_dict() alone.",
        ) from error
    except (RuntimeError, EOFError, ValueError, TypeError, KeyError) as error:
        raise refused(path, f"is damaged: {first_line(error)}", _AGAIN) from error


def _find_models(content: Any, place: str = "", depth: int = _DEPTH) -> dict[str, State]:
    """Every dictionary of named tensors, by the keys that lead to it; the outermost first."""
    if not isinstance(content, Mapping) or not depth:
        return {}
    named = {key: value for key, value in content.items() if isinstance(key, str)}
    own = {key: value for key, value in named.items() if isinstance(value, Tensor)}
    found = {place: own} if own else {}
    for key, value in named.items():
        if not key.startswith("optim"):
            found |= _find_models(value, f"{place}.{key}" if place else key, depth - 1)
    return found


class _Script:
    """Stands for any module of a TorchScript archive: its attributes, without its code."""

    def __setstate__(self, state: Any) -> None:
        self.attributes: Mapping[str, Any] = state if isinstance(state, Mapping) else {}


def _tensors(script: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for name, value in getattr(script, "attributes", {}).items():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, _Script):
            yield from _tensors(value, f"{prefix}{name}.")


class _ScriptUnpickler(pickle.Unpickler):
    """Reads the tensors of a TorchScript archive.

    Not `torch.jit.load`: what an archive's code does while it is loaded can write files.
    """

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(archive.open(f"{root}/data.pkl"))
        self._archive, self._root = archive, root
        self._held: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Script
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle":
            # Lists of plain values, which are no weights.
            return _ignore
        raise pickle.UnpicklingError(f"it holds {module}.{name}")

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, _, numel = pid
        if key not in self._held:
            held = bytearray(self._archive.read(f"{self._root}/data/{key}"))
            self._held[key] = torch.frombuffer(held, dtype=dtype) if numel else torch.empty(0)
        return self._held[key]


def _rebuild(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> Tensor:
    return storage.as_strided(size, stride, offset)


def _ignore(*_: object) -> None:
    return None
