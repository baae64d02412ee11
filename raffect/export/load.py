"""Putting an exported folder into a store: it predicts there what it predicted where it was made.

Only JSON and safetensors are read; each file is verified, and each tensor's shape is known before
it is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import nn

from raffect.affwild2.predictions import header_of
from raffect.affwild2.tasks import SPECS
from raffect.clip.encoder import CLASSES, EncoderDescription, FrameEncoder, load_encoder
from raffect.clip.images import Preprocessing
from raffect.clip.layers import use_layer
from raffect.clip.tower import create_tower, find_architecture
from raffect.clip.weights import is_repository
from raffect.config import ExtractConfig
from raffect.context import Context
from raffect.errors import ConflictError, DataError, RaffectError, SettingsError
from raffect.export.layout import (
    Exported,
    ExportedMember,
    ExportedSet,
    MemberPostprocess,
    Pixels,
    read_export,
)
from raffect.export.write import describe_encoder, pixels_of
from raffect.settings import build
from raffect.store import Manifest, Stage, Store, encoder_folder, model_folder
from raffect.store.layout import CONFIG, ENCODER_WEIGHTS, MEMBERS, METRICS, MODEL_WEIGHTS
from raffect.store.manifest import find_manifest
from raffect.temporal.ensemble import EnsembleDescription, MemberWeights
from raffect.temporal.ensembling import EnsembleMetrics
from raffect.temporal.model import ModelDescription, ModelMetrics, TemporalModel
from raffect.temporal.postprocess import CrossFitted
from raffect.text import first_line, listed
from raffect.training.checkpoints import json_bytes

IMPORTED = "imported from an export of raffect"


@dataclass(frozen=True)
class Imported:
    """The manifest of the model, and its encoders' names in the store by those in the export."""

    manifest: Manifest
    encoders: Mapping[str, str]


def import_model(
    store: Store,
    folder: Path,
    name: str,
    encoder_name: str | None = None,
    context: Context = Context(),
) -> Imported:
    """Put an exported model or ensemble, and its encoders, into a store.

    Args:
        encoder_name: Name for its encoder; None: that which it had.

    Raises:
        DataError: The folder is no export, is damaged, or lacks the weights in safetensors.
        SettingsError: There are several encoders for one name.
        ConflictError: The model's name is taken; or an encoder's is, by another one.
    """
    found = read_export(folder)
    model = found.model
    weights = {entry.name for entry in found.manifest.files}
    wanted = [each.weights for each in model.members]
    wanted += [each.weights for each in model.encoders.values()]
    if missing := [each for each in wanted if each not in weights]:
        raise DataError(
            f"{folder} holds no {listed(missing)}: its formats are"
            f" {', '.join(found.manifest.formats)}.",
            "the format `folder`, whose weights are in safetensors",
            "Export the model again with --format folder.",
        )
    spec = SPECS[model.task]
    if (model.header, model.columns) != (header_of(model.task), spec.columns):
        raise _misfit(folder, CONFIG, "its columns are not those of its task")
    if encoder_name is not None and len(model.encoders) != 1:
        raise SettingsError(
            f"--encoder-name is one name, and the model has {len(model.encoders)} encoders:"
            f" {listed(list(model.encoders)) or 'none'}.",
            "--encoder-name with a model of one encoder",
            "Leave it out.",
        )
    names = {each: encoder_name or each for each in model.encoders}
    for member in model.members:
        _check_member(found, member)
    for each in model.encoders:
        _check_encoder(found, each)
    digests = {
        each: _put_encoder(store, found, each, called, encoder_name is None)
        for each, called in names.items()
    }
    manifest = _put_model(store, found, name, names, digests, context)
    return Imported(manifest, names)


def _check_member(found: Exported, member: ExportedMember) -> None:
    try:
        with torch.device("meta"):
            made = TemporalModel(member.config, [one.dim for one in member.sets])
    except RaffectError as error:
        raise _misfit(found.folder, CONFIG, error.got) from error
    _check_tensors(found, member.weights, made)


def _check_encoder(found: Exported, name: str) -> None:
    described = found.model.encoders[name]
    config = described.encoder
    if described.classes != CLASSES:
        raise _misfit(found.folder, CONFIG, f"{name} has other classes than raffect's")
    try:
        if is_repository(config.model):
            architecture = described.architecture
            vision = {} if architecture is None else architecture["vision_cfg"]
            # A timm model of a repository would be fetched.
            if architecture is None or ":" in str(vision.get("timm_model_name")):
                raise _misfit(found.folder, CONFIG, f"{name} has no architecture of its own")
        else:
            architecture = find_architecture(config.model)[0]
        with torch.device("meta"):
            tower = create_tower(
                config,
                {**architecture, "quick_gelu": described.quick_gelu},
                device="meta",
            )
            made = FrameEncoder(config, tower, described.head)
    except DataError:
        raise
    except Exception as error:  # open_clip raises all kinds of errors on odd architectures.
        what = error.got if isinstance(error, RaffectError) else first_line(error)
        raise _misfit(found.folder, CONFIG, f"the encoder {name}: {what}") from error
    _check_tensors(found, described.weights, made)
    widths = {"projected": made.dim}
    for one in (each for member in found.model.members for each in member.sets):
        if one.encoder != name:
            continue
        extract = _build_extract(found, one)
        if one.layer not in widths:
            widths[one.layer] = use_layer(made, extract.layer).dim
        if one.dim != widths[one.layer] or described.dim != widths["projected"]:
            raise _misfit(
                found.folder, CONFIG, f"the features {one.name} are not as wide as {name}'s"
            )


def _build_extract(found: Exported, one: ExportedSet) -> ExtractConfig:
    extract = build(ExtractConfig, one.extract)
    if (extract.layer, extract.dtype) != (one.layer, one.dtype):
        raise _misfit(found.folder, CONFIG, f"the features {one.name} are described in two ways")
    return extract


def _check_tensors(found: Exported, file: str, made: nn.Module) -> None:
    """See that a file's tensors are a module's, by name, shape and type, and are finite."""
    try:
        tensors = load_tensors((found.folder / file).read_bytes())
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise _misfit(found.folder, file, f"it is no safetensors ({first_line(error)})") from error
    wanted = made.state_dict()
    wrong = sorted(wanted.keys() ^ tensors.keys()) or sorted(
        key for key, value in tensors.items() if value.shape != wanted[key].shape
    )
    if wrong:
        raise _misfit(found.folder, file, f"its tensors are not the model's: {listed(wrong, 3)}")
    broken = [key for key, value in tensors.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise _misfit(found.folder, file, f"values of {listed(broken, 3)} are not finite")


def _misfit(folder: Path, file: str, what: str) -> DataError:
    return DataError(
        f"{folder / file} can't be imported: {what}.",
        "a folder as `raffect export` wrote it",
        "Export the model again, or get the folder again from where it came.",
    )


def _put_encoder(store: Store, found: Exported, name: str, called: str, renames: bool) -> str:
    """The digest of the encoder in the store, which may have it already."""
    described = found.model.encoders[name]
    data = (found.folder / described.weights).read_bytes()
    description = _describe(found, name, found.pixels[name])
    folder = encoder_folder(called)
    there = find_manifest(store, folder)
    own = next(entry for entry in found.manifest.files if entry.name == described.weights)
    if there is not None:
        files = there.files_in(store, folder)
        held = files.entries.get(ENCODER_WEIGHTS)
        if held is not None and held.sha256 == own.sha256:
            encoder = load_encoder(store, called)
            same = describe_encoder(encoder, described.weights) == described
            if same and pixels_of(encoder) == found.pixels[name]:
                return there.digest()
        advice = "--encoder-name NAME imports this one under another"
        raise ConflictError(
            f"{store.where(folder)} is another encoder than that of {found.folder}.",
            f"the same encoder, or a name that is free{f'; {advice}' if renames else ''}",
            "Give another --encoder-name."
            if len(found.model.encoders) == 1
            else f"Use another store, or remove it: raffect delete {folder} --store {store.uri}",
        )
    plan = {"encoder": described.encoder.canonical(), "imported": own.sha256}
    stage = Stage(store, folder, "encoder", plan, {})
    parts = [
        stage.write_part(ENCODER_WEIGHTS, data),
        stage.write_part(CONFIG, json_bytes(description)),
        stage.write_part(METRICS, json_bytes({"note": IMPORTED})),
    ]
    return stage.finish(parts, {"epochs": 0, "dim": described.dim}).digest()


def _describe(found: Exported, name: str, pixels: Pixels) -> EncoderDescription:
    described = found.model.encoders[name]
    facts = pixels.canonical()
    height, width = facts.pop("size")
    description = EncoderDescription(
        encoder=described.encoder.canonical(),
        head=described.head,
        dim=described.dim,
        classes=list(described.classes),
        preprocessing=asdict(Preprocessing(height=height, width=width, **facts)),
        quick_gelu=described.quick_gelu,
    )
    if described.architecture is not None:
        description["architecture"] = described.architecture
    return description


def _put_model(
    store: Store,
    found: Exported,
    name: str,
    names: Mapping[str, str],
    digests: Mapping[str, str],
    context: Context,
) -> Manifest:
    model, after = found.model, found.postprocess.members
    alone = len(model.members) == 1
    sources = {encoder_folder(names[each]): digest for each, digest in digests.items()}
    config = {
        "task": model.task.value,
        "fold": model.members[0].config.fold,
        "imported": {
            entry.name: entry.sha256
            for entry in found.manifest.files
            if entry.name.endswith((".json", ".safetensors"))
        },
    }
    kind = "model" if alone else "ensemble"
    folder = model_folder(name)
    stage = Stage(store, folder, kind, config, sources, context.overwrite)  # type: ignore[arg-type]
    if stage.finished is not None:
        return stage.finished
    parts = []
    folders = [""] if alone else [f"{MEMBERS}/{i:02d}/" for i in range(len(model.members))]
    for below, member, own in zip(folders, model.members, after, strict=True):
        data = (found.folder / member.weights).read_bytes()
        described, metrics = _of_member(member, own, names, sources)
        parts += [
            stage.write_part(f"{below}{MODEL_WEIGHTS}", data),
            stage.write_part(f"{below}{CONFIG}", json_bytes(described)),
            stage.write_part(f"{below}{METRICS}", json_bytes(metrics)),
        ]
    if not alone:
        parts += [
            stage.write_part(CONFIG, json_bytes(_of_ensemble(found, folders))),
            stage.write_part(METRICS, json_bytes(_ensemble_metrics(found))),
        ]
    counts: dict[str, object] = {"score": model.score}
    if alone:
        own_metrics = model.members[0].metrics
        counts |= {
            "epoch": own_metrics.best_epoch,
            "epochs": own_metrics.epochs,
            "parameters": own_metrics.parameters,
        }
    else:
        counts["members"] = len(model.members)
    return stage.finish(parts, counts, notes={"note": IMPORTED, "raffect": found.manifest.raffect})


def _of_member(
    member: ExportedMember,
    after: MemberPostprocess,
    names: Mapping[str, str],
    sources: Mapping[str, str],
) -> tuple[ModelDescription, ModelMetrics]:
    """A member's config.json and metrics.json, of the encoders as they are called in the store."""
    sets, alone = member.sets, len(member.sets) == 1
    before = {k: v for k, v in member.sources.items() if not k.startswith("encoders/")}
    encoders = [None if one.encoder is None else names[one.encoder] for one in sets]
    extracts = [dict(one.extract) for one in sets]
    described = ModelDescription(
        config=member.config.canonical(),
        feature_dim=sum(one.dim for one in sets),
        lineage={
            "features": sets[0].name if alone else [one.name for one in sets],
            "encoder": encoders[0] if alone else encoders,
            "sources": {**before, **sources},
            "extract": extracts[0] if alone else extracts,
        },
    )
    if not alone:
        described["feature_dims"] = [one.dim for one in sets]
    known = {"task": member.config.task.value, "history": [], **member.metrics.canonical()}
    metrics = cast(ModelMetrics, known)
    final = after.postprocess
    if final is not None:
        # Which values each validation video had is not exported: the videos' names are data.
        fitted = CrossFitted(groups=((), ()), applied=(final, final), final=final)
        metrics["postprocess"] = fitted.canonical()
    return described, metrics


def _of_ensemble(found: Exported, folders: list[str]) -> EnsembleDescription:
    model = found.model
    return EnsembleDescription(
        task=model.task.value,
        fold=model.members[0].config.fold,
        method="imported",
        members=[each.rstrip("/") for each in folders],
    )


def _ensemble_metrics(found: Exported) -> EnsembleMetrics:
    model, counts = found.model, tuple(of.count for of in found.postprocess.members)
    weights = MemberWeights(groups=((), ()), applied=(counts, counts), final=counts)
    members = zip(model.members, counts, strict=True)
    return EnsembleMetrics(
        task=model.task.value,
        metric=SPECS[model.task].score_name,
        selection=model.selection,
        score=model.score,
        parts={},
        best_epoch=1,
        method="imported",
        members=[
            {"model": of.name, "weight": count / sum(counts), "score": of.metrics.score}
            for of, count in members
        ],
        weights=weights.canonical(),
    )
