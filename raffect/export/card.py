"""The card of an exported model: README.md, with the front matter of Hugging Face's hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import yaml

from raffect import __version__
from raffect.affwild2.scan import says_synthetic
from raffect.affwild2.selection import FEWEST_VIDEOS, judge
from raffect.affwild2.tasks import Task
from raffect.export.layout import ExportedModel, ExportedPostprocess, Format
from raffect.store import DATASET, Files, Store
from raffect.store.layout import SWEEPS
from raffect.store.manifest import find_manifest
from raffect.sweep.leaderboard import load_sweep
from raffect.sweep.paired import sums_of
from raffect.text import size_text

_TITLES = {
    Task.VA: "valence and arousal",
    Task.EXPR: "eight expressions",
    Task.AU: "twelve action units",
}
_METRICS = {Task.VA: "ccc", Task.EXPR: "f1", Task.AU: "f1"}
_VALUES = {
    Task.VA: "Each is between -1 and 1.",
    Task.EXPR: "Each is a probability; they sum to 1, and the largest is the expression.",
    Task.AU: "Each is a probability; a unit is active from 0.5 on.",
}
_FILES: dict[Format, str] = {
    "folder": "Weights in safetensors; `temporal.py` is the temporal model in plain torch",
    "onnx": "Graphs for ONNX Runtime (opset 20); any batch, any length",
    "torchscript": "Graphs for torch.jit.load; any batch, any length (torch calls them deprecated,"
    " and still reads them)",
}
_RUN: dict[Format, str] = {
    "folder": """pip install numpy pillow safetensors torch open_clip_torch
python run.py CROPS OUT.csv""",
    "onnx": """pip install numpy pillow onnxruntime
python run_graphs.py CROPS OUT.csv""",
    "torchscript": """pip install numpy pillow torch
python run_graphs.py CROPS OUT.csv torchscript""",
}
_GRAPHS = """The graphs, for programs of your own: `encoder` takes `pixels` (batch, height, width,
3) uint8, red first, of preprocessing.json's size, and gives `features`; `temporal` takes
`features` (batch, frames, values) float32, `present` (batch, frames, sets) bool (the frame has a
crop of its own), `real` (batch, frames) bool (it is no padding, which stands at the end and may
hold anything), and `look_back` () bool, and gives `predictions`. Other types are refused: convert
float16 features with `.astype(numpy.float32)`, and 0 and 1 with `.astype(bool)`. `video.py` is
what remains, in NumPy: filling gaps, blending segments, smoothing."""
_AFF_WILD2 = """The labels and crops are Aff-Wild2's. Who has that dataset has signed an agreement,
which keeps it to non-commercial research and forbids to pass it on; it is not in this folder, and
neither are features, labels or names of videos. Whether weights that were trained on it may be
shared, and for which use, is not said here: read the agreement that you signed, and ask the
dataset's authors where it is silent. Until you know, keep the weights to those who have signed it,
and push them to private repositories only."""
_SYNTHETIC = """The data are **synthetic**: faces that raffect drew. No person is in them, and
nothing of Aff-Wild2. Scores on them say that the pipeline works, and nothing about real faces."""
_UNKNOWN = """The store that it was exported from no longer holds the dataset that it was trained
on, so that this card can't say whether that is Aff-Wild2 or synthetic. Aff-Wild2's agreement
forbids to share the data, and may bind what was trained on them: read it before you share this."""
_DATA = {"synthetic faces": _SYNTHETIC, "Aff-Wild2": _AFF_WILD2, "unknown": _UNKNOWN}
_CITE = """Weiwei Zhou, Chenkun Ling, Zefeng Cai: Emotion Recognition with CLIP and Sequential
Learning. arXiv:2503.09929, 2025. The temporal model: arXiv:2403.11440. The data: Dimitrios
Kollias, Stefanos Zafeiriou: Aff-Wild2, arXiv:1811.07770. The software: raffect, CITATION.cff."""


@dataclass(frozen=True)
class _Score:
    """A model's score as far as the store tells how sure it is."""

    value: float
    interval: tuple[float, float] | None = None
    expected: float | None = None
    videos: int = 0


def describe_card(
    store: Store,
    files: Files,
    model: ExportedModel,
    postprocess: ExportedPostprocess,
    formats: Sequence[Format],
    sizes: Mapping[str, int],
) -> str:
    """The card of a model of the store, whose exported files have these sizes in bytes."""
    dataset = find_manifest(store, DATASET)
    used = {member.sources.get(DATASET) for member in model.members}
    name = "unknown"
    if dataset is not None and used == {dataset.digest()}:
        name = "synthetic faces" if says_synthetic(dataset) else "Aff-Wild2"
    found = _score(store, files, model)
    parts = [
        _front_matter(model, found, name),
        f"# {model.name}: {_TITLES[model.task]} of faces in videos",
        _what(model),
        "## Run it\n\n" + _how(model, formats),
        "## Files\n\n" + _table(formats, sizes),
        "## Scores\n\n" + _scores(model, found, name),
        "## How it was made\n\n" + _made(model, postprocess),
        "## Data and licences\n\n" + _DATA[name],
        _pretrained(model),
        f"## Cite\n\n{_CITE}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(model: ExportedModel, score: _Score, data: str) -> str:
    task = {"type": "video-classification", "name": _TITLES[model.task]}
    metric = {"type": _METRICS[model.task], "value": round(score.value, 4)}
    told = {"name": f"{data} (validation)", "type": data.lower().replace(" ", "-")}
    result = {"task": task, "dataset": told, "metrics": [metric]}
    tree = {
        "license": "other",
        "license_name": "see-data-and-licences",
        "license_link": "README.md",
        "library_name": "raffect",
        "pipeline_tag": "video-classification",
        "tags": ["raffect", "affective-computing", "facial-expressions", model.task.value],
        "model-index": [{"name": model.name, "results": [result]}],
    }
    return f"---\n{yaml.safe_dump(tree, sort_keys=False)}---"


def _what(model: ExportedModel) -> str:
    members, encoders = len(model.members), list(model.encoders)
    mean = f"It is the mean of {members} models. " if members > 1 else ""
    imported = sorted({one.name for of in model.members for one in of.sets if not one.encoder})
    made = (
        f"An image encoder ({', '.join(encoders)}) turns each crop of a face into a feature, and a"
        " temporal model these into predictions of each frame."
        if not imported
        else "**There is no encoder for all of its features**: "
        f"{', '.join(imported)} were imported. It takes features of the same kind."
    )
    columns = ", ".join(f"`{column}`" for column in model.columns)
    return f"{mean}{made}\n\nFor each frame it predicts {columns}. {_VALUES[model.task]}"


def _how(model: ExportedModel, formats: Sequence[Format]) -> str:
    if not model.takes_crops:
        return _GRAPHS
    commands = "\n\n".join(f"```bash\n{_RUN[kind]}\n```" for kind in formats)
    exact = all(
        one.extract.get("run", {}).get("precision", "auto") in ("auto", "float32")
        for member in model.members
        for one in member.sets
    )
    told = (
        "Every way gives the numbers of `raffect predict --frames CROPS` to 1e-4, for crops that"
        " are square or as wide and high as preprocessing.json says. (Where features are rounded"
        " to float16, a difference in their last bit may round the other way.)"
        if exact
        else "Its features were computed in half precision: expect differences to `raffect"
        " predict` of about 1e-3."
    )
    return (
        f"{commands}\n\n"
        "`CROPS` is the folder of one video's aligned faces, 112 x 112 pixels, named by frame from"
        " 1: `00001.jpg`. A frame without a crop is predicted from those around it. "
        f"{told} `raffect import` puts the `folder` format into a store again.\n\n{_GRAPHS}"
    )


def _table(formats: Sequence[Format], sizes: Mapping[str, int]) -> str:
    rows = [f"- {_FILES[kind]}" for kind in formats]
    rows += ["", "| file | size |", "|---|---|"]
    rows += [f"| `{name}` | {size_text(size)} |" for name, size in sorted(sizes.items())]
    return "\n".join(rows)


def _score(store: Store, files: Files, model: ExportedModel) -> _Score:
    """Of a sweep's trial with the sweep's evidence, else by the model's own sums per video."""
    group, name, *below = files.folder.split("/")
    if group == SWEEPS:
        view = load_sweep(store, name)
        number = int(below[-1])
        if number not in view.evidence.trials:
            return _Score(model.score)
        is_best = view.best is not None and view.best.number == number
        return _Score(
            model.score,
            view.evidence.trials[number].interval,
            view.evidence.expected if is_best else None,
            view.evidence.videos,
        )
    # Of an ensemble, which has no epochs, it is 1.
    alone = len(model.members) == 1
    sums = sums_of(store, files, model.members[0].metrics.best_epoch if alone else 1)
    if sums is None:
        return _Score(model.score)
    one = np.ones(1, dtype=bool)
    judged = judge(model.task, sums[None], one, one)
    if judged is None:
        return _Score(model.score)
    low, high = judged.intervals[0].tolist()
    return _Score(model.score, (low, high), None, len(sums))


def _scores(model: ExportedModel, score: _Score, data: str) -> str:
    fold = model.members[0].config.fold
    where = f"fold {fold}" if fold else "the official validation split"
    if data == "synthetic faces":
        where = "the validation split"
    first = f"**{score.value:.4f}** {model.members[0].metrics.metric}, on {where} of {data}"
    lines = [f"{first} ({model.selection})."]
    if score.interval is not None:
        low, high = score.interval
        lines.append(
            f"95 % interval over {score.videos} videos: {low:.4f} to {high:.4f} (bootstrap)."
        )
    else:
        lines.append(f"No interval: fewer than {FEWEST_VIDEOS} videos, or none were recorded.")
    if score.expected is not None:
        lines.append(
            f"Expected on new videos: **{score.expected:.4f}**, as the best of a sweep's trials is"
            " also the luckiest."
        )
    else:
        lines.append("Validation chose the epoch, and maybe more: expect less on new videos.")
    if len(model.members) == 1:
        parts = model.members[0].metrics.parts
        rows = [f"| {name} | {value:.4f} |" for name, value in parts.items()]
        lines += ["", "| part | score |", "|---|---|", *rows]
    return "\n".join(lines)


def _made(model: ExportedModel, postprocess: ExportedPostprocess) -> str:
    lines = []
    for member, after in zip(model.members, postprocess.members, strict=True):
        config = member.config
        tcn, transformer = config.model.tcn, config.model.transformer
        sets = ", ".join(f"{one.name} ({one.dim} values, {one.dtype})" for one in member.sets)
        done = after.postprocess.describe(model.task) if after.postprocess else "none"
        lines.append(
            f"- {member.name}: features {sets}; TCN of {tcn.depth} blocks, Transformer of"
            f" {transformer.layers} layers, {member.metrics.parameters:,} parameters; segments of"
            f" {config.segments.window} frames; {member.metrics.epochs} epochs, the best is"
            f" {member.metrics.best_epoch}; learning rate {config.optimiser.lr:g}, seed"
            f" {config.run.seed}; post-processing: {done}."
        )
        lines += [f"  - {folder}: `{digest}`" for folder, digest in member.sources.items()]
    for name, encoder in model.encoders.items():
        size = f"{encoder.encoder.model}, {encoder.dim} values"
        lines.append(f"- Encoder {name}: {size}; its weights are `{encoder.weights}`.")
    lines.append(
        f"\nAll settings are in config.json. Exported by raffect {__version__}, with torch"
        f" {torch.__version__.partition('+')[0]}; SHA-256 of each file in export.json."
    )
    return "\n".join(lines)


def _pretrained(model: ExportedModel) -> str:
    began = sorted(
        {
            f"{of.encoder.model} ({of.encoder.pretrained})"
            for of in model.encoders.values()
            if of.encoder.pretrained
        }
    )
    if not began:
        return ""
    return f"Its encoder began as {', '.join(began)}; those weights have a licence of their own."
