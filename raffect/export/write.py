"""A trained model as a folder that runs anywhere: whole, or not there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from raffect.affwild2.predictions import header_of
from raffect.affwild2.tasks import SPECS, Task
from raffect.clip.encoder import FrameEncoder, load_encoder
from raffect.clip.layers import use_layer
from raffect.clip.tower import plain_architecture
from raffect.clip.weights import is_repository
from raffect.config import EncoderConfig, ExtractConfig, FeatureType, TemporalConfig
from raffect.context import Progress, ignore
from raffect.export.card import describe_card
from raffect.export.formats import to_bytes
from raffect.export.graphs import EncoderGraph, TemporalGraph
from raffect.export.layout import (
    CARD,
    CONFIG,
    ENDINGS,
    MANIFEST,
    POSTPROCESS,
    PREPROCESSING,
    ExportedEncoder,
    ExportedMember,
    ExportedMetrics,
    ExportedModel,
    ExportedPostprocess,
    ExportedSet,
    ExportManifest,
    Format,
    MemberPostprocess,
    Pixels,
    Prediction,
    check_formats,
    whole_folder,
)
from raffect.settings import build
from raffect.store import FileEntry, Files, Store, encoder_folder, files_of
from raffect.store.layout import CONFIG as DESCRIPTION
from raffect.store.layout import ENCODER_WEIGHTS, METRICS, MODEL_WEIGHTS
from raffect.temporal.blending import SETTLING, blend_stride
from raffect.temporal.data import FeatureSet, check_encoder, sets_of
from raffect.temporal.ensemble import Ensemble, is_ensemble, load_ensemble
from raffect.temporal.inference import ModelBundle
from raffect.temporal.model import TemporalModel
from raffect.training.checkpoints import json_bytes

Write = Callable[[str, bytes], None]
_STANDALONE = Path(__file__).with_name("standalone")
_PACKAGE = "raffect.export.standalone."
_PROGRAMS: dict[Format, tuple[str, ...]] = {
    "folder": ("run.py", "temporal.py", "video.py"),
    "onnx": ("run_graphs.py", "video.py"),
    "torchscript": ("run_graphs.py", "video.py"),
}
_OF_CROPS = frozenset({"run.py", "run_graphs.py"})


def export(
    store: Store,
    files: Files,
    name: str,
    formats: Sequence[str],
    out: Path,
    overwrite: bool = False,
    progress: Progress = ignore,
) -> ExportManifest:
    """Write a model or an ensemble into a new folder.

    A model of imported features is exported without an encoder.

    Args:
        files: The model's, and `name` what the user calls it.
        formats: Of FORMATS.
        overwrite: Replace a folder that an export wrote.

    Raises:
        SettingsError: A format is unknown or can't hold the model.
        ConflictError: The folder exists; or another encoder has the name of the model's.
        DataError: The folder can't be written.
    """
    wanted = check_formats(formats)
    ensemble = load_ensemble(store, files, "cpu")
    parts = _Parts(store, files, name, ensemble)
    with whole_folder(out, overwrite) as folder:
        entries: list[FileEntry] = []

        def write(file: str, data: bytes) -> None:
            (folder / file).write_bytes(data)
            entries.append(FileEntry.of(file, data))

        makers = [*parts.weights(wanted), *parts.graphs(wanted)]
        for done, (file, make) in enumerate(makers):
            progress(done, len(makers))
            write(file, make())
        progress(len(makers), len(makers))
        write(CONFIG, json_bytes(parts.model.canonical()))
        pixels = {key: each.canonical() for key, each in parts.pixels.items()}
        write(PREPROCESSING, json_bytes(pixels))
        write(POSTPROCESS, json_bytes(parts.postprocess.canonical()))
        programs = {each for kind in wanted for each in _PROGRAMS[kind]}
        if not parts.model.takes_crops:
            programs -= _OF_CROPS
        for program in sorted(programs):
            text = (_STANDALONE / program).read_text(encoding="utf-8")
            write(program, text.replace(_PACKAGE, "").encode())
        sizes = {entry.name: entry.size for entry in entries}
        card = describe_card(store, files, parts.model, parts.postprocess, wanted, sizes)
        write(CARD, card.encode())
        manifest = ExportManifest(formats=wanted, files=tuple(entries))
        (folder / MANIFEST).write_bytes(json_bytes(manifest.canonical()))
    return manifest


class _Parts:
    """What a folder of a model consists of."""

    def __init__(self, store: Store, files: Files, name: str, ensemble: Ensemble) -> None:
        self._store = store
        self._ensemble = ensemble
        self._files = [files]
        if is_ensemble(files):
            members = files.read_json(DESCRIPTION)["members"]
            self._files = [files_of(store, f"{files.folder}/{each}") for each in members]
        self._sets: dict[str, tuple[FeatureSet, str]] = {}
        names: list[str] = []
        for bundle in ensemble.members:
            for each in sets_of(bundle.lineage):
                if each.encoder is not None:
                    check_encoder(store, bundle.lineage, each.encoder)
                    names.append(each.encoder)
                self._sets.setdefault(each.key, (each, _numbered("encoder", len(self._sets))))
        encoders = {each: load_encoder(store, each) for each in dict.fromkeys(names)}
        self._encoders = encoders
        self.pixels = {each: pixels_of(encoder) for each, encoder in encoders.items()}
        bundles, task = ensemble.members, ensemble.config.task
        metrics = files.read_json(METRICS)
        self.model = ExportedModel(
            name=name,
            task=task,
            header=header_of(task),
            columns=SPECS[task].columns,
            members=tuple(self._member(i, bundle) for i, bundle in enumerate(bundles)),
            encoders={
                each: describe_encoder(encoder, _weights(encoders, each))
                for each, encoder in encoders.items()
            },
            score=metrics["score"],
            selection=metrics["selection"],
        )
        counts = ensemble.weights.final
        self.postprocess = ExportedPostprocess(
            members=tuple(
                MemberPostprocess(count=count, postprocess=of.postprocess and of.postprocess.final)
                for count, of in zip(counts, bundles, strict=True)
            )
        )

    def _member(self, number: int, bundle: ModelBundle) -> ExportedMember:
        config, metrics = bundle.config, bundle.metrics
        kept = ExportedMetrics.model_fields
        sets = []
        for each, dim in zip(sets_of(bundle.lineage), bundle.model.dims, strict=True):
            made = _extract(each)
            sets.append(
                ExportedSet(
                    name=each.name,
                    encoder=each.encoder,
                    graph=self._sets[each.key][1],
                    dim=dim,
                    layer=made.layer,
                    dtype=made.dtype,
                    extract=each.extract,
                )
            )
        return ExportedMember(
            name=self._files[number].folder,
            weights=_numbered("model", number) + ".safetensors",
            graph=_numbered("temporal", number),
            config=config,
            sets=tuple(sets),
            sources=bundle.lineage["sources"],
            predict=describe_prediction(config),
            metrics=build(ExportedMetrics, {k: v for k, v in metrics.items() if k in kept}),
        )

    def weights(self, formats: Sequence[Format]) -> Iterator[tuple[str, Callable[[], bytes]]]:
        """The files of weights by name, and what makes each."""
        if "folder" not in formats:
            return
        for member, files in zip(self.model.members, self._files, strict=True):
            yield member.weights, partial(files.read, MODEL_WEIGHTS)
        for name, encoder in self.model.encoders.items():
            files = files_of(self._store, encoder_folder(name))
            yield encoder.weights, partial(files.read, ENCODER_WEIGHTS)

    def graphs(self, formats: Sequence[Format]) -> Iterator[tuple[str, Callable[[], bytes]]]:
        """The files of graphs by name, and what makes each."""
        for kind in formats:
            if kind == "folder":
                continue
            members = zip(self.model.members, self._ensemble.members, strict=True)
            for member, bundle in members:
                yield (
                    member.graph + ENDINGS[kind],
                    partial(temporal_bytes, bundle.model, bundle.config.task, kind),
                )
            for each, graph in self._sets.values():
                if each.encoder is not None:
                    yield graph + ENDINGS[kind], partial(self._encoder, each, kind)

    def _encoder(self, features: FeatureSet, kind: Format) -> bytes:
        made = _extract(features)
        encoder = use_layer(load_encoder(self._store, str(features.encoder)), made.layer)
        return encoder_bytes(encoder, made.dtype, kind)


def encoder_bytes(encoder: FrameEncoder, dtype: FeatureType, kind: Format) -> bytes:
    """The file of an encoder's graph."""
    size = encoder.preprocessing.height, encoder.preprocessing.width
    # Two: exporters take a length of one for a constant.
    pixels = torch.zeros((2, *size, 3), dtype=torch.uint8)
    graph = EncoderGraph(encoder, dtype).eval()
    return to_bytes(graph, {"pixels": pixels}, [{0: "batch"}], "features", kind)


def temporal_bytes(model: TemporalModel, task: Task, kind: Format) -> bytes:
    """The file of a temporal model's graph."""
    batch, frames = 2, 8
    inputs: dict[str, Tensor] = {
        "features": torch.zeros(batch, frames, model.feature_dim),
        "present": torch.ones(batch, frames, len(model.dims), dtype=torch.bool),
        "real": torch.ones(batch, frames, dtype=torch.bool),
        "look_back": torch.tensor(False),
    }
    both = {0: "batch", 1: "frames"}
    graph = TemporalGraph(model, task).eval()
    return to_bytes(graph, inputs, [both, both, both, {}], "predictions", kind)


def describe_prediction(config: TemporalConfig) -> Prediction:
    """How a model with these settings predicts a video (temporal/blending.py)."""
    segments = config.segments
    stride = segments.predict_stride or segments.stride
    crossfades = segments.blend == "crossfade"
    if crossfades and segments.predict_stride is None:
        stride = blend_stride(segments.window, segments.stride)
    return Prediction(
        window=segments.window,
        stride=stride,
        blend=segments.blend,
        looks_ahead=config.model.transformer.layers > 0 and crossfades,
        settling=SETTLING,
        outputs=SPECS[config.task].outputs,
    )


def _numbered(stem: str, number: int) -> str:
    return stem if not number else f"{stem}-{number + 1}"


def _weights(encoders: dict[str, FrameEncoder], name: str) -> str:
    return _numbered("encoder", list(encoders).index(name)) + ".safetensors"


def _extract(features: FeatureSet) -> ExtractConfig:
    return (
        build(ExtractConfig, features.extract)
        if features.encoder
        else ExtractConfig(dtype=features.extract.get("dtype", "float16"))
    )


def pixels_of(encoder: FrameEncoder) -> Pixels:
    """What an encoder expects of an image."""
    found = asdict(encoder.preprocessing)
    return Pixels(size=(found.pop("height"), found.pop("width")), **found)


def describe_encoder(encoder: FrameEncoder, weights: str) -> ExportedEncoder:
    """An encoder but for its weights, which lie in the file of that name."""
    described = encoder.describe()
    architecture = encoder.architecture
    return ExportedEncoder(
        weights=weights,
        encoder=_without_paths(encoder.config),
        head=described["head"],
        dim=described["dim"],
        classes=described["classes"],
        quick_gelu=described["quick_gelu"],
        architecture=described.get("architecture"),
        open_clip=plain_architecture(architecture, encoder.config.image_size),
    )


def _without_paths(config: EncoderConfig) -> EncoderConfig:
    """The encoder's settings with the names of local files and folders in place of their paths."""

    def name(text: str | None) -> str | None:
        if text is None or text.startswith("hf-hub:"):
            return text
        if is_repository(text):
            return f"local-dir:{Path(text.partition(':')[2]).name}"
        return Path(text).name if os.sep in text else text

    changes = {"model": name(config.model), "pretrained": name(config.pretrained)}
    return config.model_copy(update=changes)
