"""What lies in an exported folder, and reading it again: verified, and nothing of it unpickled.

config.json, preprocessing.json and postprocess.json describe the model in every format; the
weights are in safetensors (`folder`), or in graphs (`onnx`, `torchscript`).
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError

from raffect import __version__
from raffect.affwild2.tasks import Task
from raffect.clip.images import ResizeMode
from raffect.config import EncoderConfig, FeatureType, Layer, TemporalConfig
from raffect.errors import ConflictError, DataError, SettingsError
from raffect.inputs import read_input, reason_of
from raffect.requirements import require
from raffect.settings import Config, Count
from raffect.store import FileEntry
from raffect.temporal.postprocess import Postprocess
from raffect.text import first_line, listed, printable

MANIFEST = "export.json"
"""Sizes and SHA-256 of all other files; a folder with it was written by export."""
CONFIG = "config.json"
PREPROCESSING = "preprocessing.json"
POSTPROCESS = "postprocess.json"
CARD = "README.md"
Format = Literal["folder", "onnx", "torchscript"]
FORMATS: tuple[Format, ...] = ("folder", "onnx", "torchscript")
ENDINGS: dict[Format, str] = {"onnx": ".onnx", "torchscript": ".pt"}
C = TypeVar("C", bound=Config)
_MOST_JSON = 1 << 24
PlainName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,149}$")]
"""Of a file, or of something in a store."""
_NEXT = "Export the model again, or get the folder again from where it came."


class ExportManifest(Config):
    """What export wrote; `digest` names the model wherever it is."""

    format: Literal["raffect-export"] = "raffect-export"
    version: Literal[1] = 1
    raffect: str = __version__
    formats: tuple[Format, ...]
    files: tuple[FileEntry, ...]


class Pixels(Config):
    """An encoder's preprocessing in open_clip's terms (PreprocessCfg); `size` is height, width."""

    size: tuple[Count, Count]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    resize_mode: ResizeMode


class ExportedSet(Config):
    """A set of features of a member; imported ones have no encoder, and no graph makes them."""

    name: PlainName
    encoder: PlainName | None
    graph: PlainName
    dim: Count
    layer: Layer
    dtype: FeatureType
    extract: Mapping[str, Any]


class ExportedEncoder(Config):
    """An encoder; `open_clip` has the arguments of open_clip.CLIP for its tower."""

    weights: PlainName
    encoder: EncoderConfig
    head: Literal["linear", "prompt"]
    dim: Count
    classes: tuple[str, ...]
    quick_gelu: bool
    architecture: Mapping[str, Any] | None
    open_clip: Mapping[str, Any]


class Prediction(Config):
    """How a video is predicted from segments (temporal/blending.py)."""

    window: Count
    stride: Count
    blend: Literal["crossfade", "mean"]
    looks_ahead: bool
    settling: float
    outputs: Count


class ExportedMetrics(Config):
    """ModelMetrics without its history."""

    metric: str
    selection: str
    score: float
    parts: dict[str, float]
    best_epoch: int
    epochs: int
    parameters: int
    data: str
    raw: float | None = None


class ExportedMember(Config):
    """A temporal model; all of an ensemble are of one task."""

    name: str
    weights: PlainName
    graph: PlainName
    config: TemporalConfig
    sets: tuple[ExportedSet, ...] = Field(min_length=1)
    sources: dict[str, str]
    predict: Prediction
    metrics: ExportedMetrics


class ExportedModel(Config):
    """config.json."""

    name: str
    task: Task
    header: str
    columns: tuple[str, ...]
    members: tuple[ExportedMember, ...] = Field(min_length=1)
    encoders: dict[PlainName, ExportedEncoder]
    score: float
    selection: str

    @property
    def takes_crops(self) -> bool:
        """Whether encoders make all of its features; some may have been imported."""
        return all(one.encoder for member in self.members for one in member.sets)


class MemberPostprocess(Config):
    """What a member's predictions are finished with, and how often it counts in the mean."""

    count: int = Field(ge=0)
    postprocess: Postprocess | None


class ExportedPostprocess(Config):
    """postprocess.json."""

    members: tuple[MemberPostprocess, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Exported:
    """An exported folder whose files are as they were written."""

    folder: Path
    manifest: ExportManifest
    model: ExportedModel
    pixels: Mapping[str, Pixels]
    postprocess: ExportedPostprocess


def check_formats(formats: Sequence[str]) -> tuple[Format, ...]:
    """The formats that a user named, each once; SettingsError if one is unknown.

    Raises:
        NotThereError: What writes one is not installed.
    """
    unknown = [each for each in formats if each not in FORMATS]
    if unknown or not formats:
        raise SettingsError(
            f"There is no format {', '.join(unknown) or '(none was given)'}.",
            ", ".join(FORMATS),
            "Give one with --format, which may be repeated.",
        )
    if "onnx" in formats:
        for module in ("onnx", "onnxscript"):
            require("onnx", module, "--format onnx")
    return tuple(each for each in FORMATS if each in formats)


def check_target(out: Path, overwrite: bool) -> None:
    """Refuse a folder that exists, unless it is to be replaced and an export wrote it."""
    if not out.exists() and not out.is_symlink():
        return
    if not (out / MANIFEST).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise ConflictError(
            f"{out} exists, and is no folder that `raffect export` wrote.",
            "a folder that does not exist",
            "Give another --out.",
        )
    if not overwrite and (out / MANIFEST).is_file():
        raise ConflictError(
            f"{out} holds an exported model.",
            "a folder that does not exist",
            "Give another --out, or --overwrite to replace it.",
        )


@contextmanager
def whole_folder(out: Path, overwrite: bool) -> Iterator[Path]:
    """A folder beside `out` to write into, which takes its place when all is written."""
    check_target(out, overwrite)
    out = out.absolute()
    beside = out.with_name(f".{out.name}.{secrets.token_hex(16)}")
    try:
        beside.mkdir(parents=True)
        yield beside
        old = out.with_name(f"{beside.name}.old")
        if out.exists():
            out.rename(old)
        beside.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"{out} can't be written: {error.strerror or error}.",
            "a folder on a disk with room, in which you may write",
            "Give another --out.",
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def read_manifest(folder: Path) -> ExportManifest:
    """What an exported folder says that it holds; a DataError if it is none."""
    return _parse(folder, MANIFEST, ExportManifest)


def read_export(folder: Path) -> Exported:
    """An exported folder, each of whose files is verified.

    Raises:
        DataError: It is none, a file is missing or is not as it was written, or they do not agree.
    """
    manifest = read_manifest(folder)
    faults = []
    for entry in manifest.files:
        path = folder / entry.name
        if "/" in entry.name or "\\" in entry.name or not path.is_file() or path.is_symlink():
            faults.append(f"{printable(entry.name)} is missing")
        elif path.stat().st_size != entry.size:
            faults.append(f"{entry.name} has {path.stat().st_size:,} bytes, not {entry.size:,}")
        elif entry.fault(path.read_bytes()):
            faults.append(f"{entry.name} has another SHA-256")
    names = {entry.name for entry in manifest.files}
    missing = {CONFIG, PREPROCESSING, POSTPROCESS} - names
    faults += [f"{MANIFEST} does not list {name}" for name in sorted(missing)]
    if faults:
        raise DataError(
            f"{folder} is not as `raffect export` wrote it: {listed(faults, 3)}.",
            "all of its files, unchanged",
            _NEXT,
        )
    model = _parse(folder, CONFIG, ExportedModel)
    after = _parse(folder, POSTPROCESS, ExportedPostprocess)
    tree = _read(folder, PREPROCESSING)
    pixels = {name: _build(folder, PREPROCESSING, Pixels, tree[name]) for name in tree}
    used = {one.encoder for member in model.members for one in member.sets} - {None}
    fits = (
        len(after.members) == len(model.members)
        and sum(member.count for member in after.members) > 0
        and {member.config.task for member in model.members} == {model.task}
        and used == set(model.encoders) == set(pixels)
    )
    if not fits:
        raise DataError(
            f"{folder}: {CONFIG}, {PREPROCESSING} and {POSTPROCESS} are not of one model.",
            "the files of one export",
            _NEXT,
        )
    return Exported(folder, manifest, model, pixels, after)


def _parse(folder: Path, name: str, cls: type[C]) -> C:
    return _build(folder, name, cls, _read(folder, name))


def _read(folder: Path, name: str) -> Mapping[str, Any]:
    try:
        tree = json.loads(read_input(folder / name, _MOST_JSON))
        if isinstance(tree, dict):
            return tree
        what = "it holds no JSON object"
    except OSError as error:
        what = reason_of(error)
    except (ValueError, RecursionError) as error:
        what = f"it is no JSON ({first_line(error)})"
    raise DataError(
        f"{folder} is no folder of `raffect export`: {name}: {what}.",
        f"a folder with {MANIFEST} and {CONFIG}",
        "Give the folder that `raffect export --out` or `raffect pull --out` wrote.",
    )


def _build(folder: Path, name: str, cls: type[C], tree: object) -> C:
    try:
        return cls.model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = printable(".".join(map(str, first["loc"])))
        raise DataError(
            f"{folder / name} is not what this raffect exports: {where}: {first['msg']}.",
            f"a folder of `raffect export`, of raffect {__version__} or before",
            _NEXT,
        ) from None
