"""A synthetic Aff-Wild2: a raw tree in exactly the real layout, from known latents.

For demos, tests and benchmarks. README.txt and synthetic.json at its root say what it is.
synthetic.json is written last, and folders of crops get their final name when complete, so that
an interrupted tree can be continued.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TypedDict

import numpy as np

from raffect.affwild2.predictions import VideoPredictions, write_predictions
from raffect.affwild2.scan import SYNTHETIC_MARKER
from raffect.affwild2.tasks import SPECS, SPLIT_FOLDERS, Split, Task, crop_name
from raffect.context import Progress, ignore
from raffect.errors import ConflictError, SettingsError
from raffect.synthetic import faces
from raffect.synthetic.cast import Clip, cast
from raffect.synthetic.latents import Performance, deal, perform

GENERATOR = 2
"""Incremented when the same parameters would give another tree."""
_BEGUN = "synthetic.begun.json"
_UNFINISHED = ".unfinished"
_MIN_VIDEOS, _MIN_FRAMES = 6, 16
_README = """This is not Aff-Wild2. It is a synthetic data set in Aff-Wild2's layout, written by
`raffect synth` for demos, tests and benchmarks: drawn faces, and labels that follow from the
latent emotions they were drawn from. No person is shown and no real annotation is used.
synthetic.json has its parameters. oracle/*.csv has, for each task's validation split, the best
predictions that can be reached: what annotators with other errors but the same habits (delay,
smoothing, hysteresis) write down of the same latents, averaged over many of them.
"""


class Note(TypedDict, total=False):
    """synthetic.json, and without `counts` the note that a tree was begun."""

    synthetic: bool
    parameters: dict[str, int]
    counts: dict[str, int]


def write_synthetic(
    root: Path,
    videos: int = 48,
    frames: int = 240,
    seed: int = 0,
    progress: Progress = ignore,
) -> None:
    """Write a synthetic Aff-Wild2 tree; the same arguments give the same bytes.

    Called again, it continues an interrupted tree and leaves a finished one alone.

    Args:
        root: Folder of the tree: missing, empty, or begun with the same parameters.
        videos: Folders of crops, at least 6.
        frames: Median length of a video, at least 16; lengths spread from 1/8 to 3 times it.
        progress: Counts frames.

    Raises:
        SettingsError: A parameter is out of range.
        ConflictError: The folder holds something else, or a tree with other parameters.
    """
    if videos < _MIN_VIDEOS or frames < _MIN_FRAMES or seed < 0:
        raise SettingsError(
            f"No synthetic tree of {videos} videos, {frames} frames and seed {seed} can be made.",
            f"at least {_MIN_VIDEOS} videos of at least {_MIN_FRAMES} frames, and a seed of 0 "
            "or more",
            "Give larger numbers, e.g. --videos 48 --frames 240 --seed 0.",
        )
    parameters = {"generator": GENERATOR, "videos": videos, "frames": frames, "seed": seed}
    if _claim(root, parameters):
        return
    counts: Counter[str] = Counter()
    oracle: dict[Task, list[VideoPredictions]] = {task: [] for task in Task}
    clips = cast(videos, frames, seed)
    total = sum(clip.frames for clip in clips)
    done = 0
    # EXPR's validation split has a deck of its own, so that both contain all expressions.
    decks = {split: deal(np.random.default_rng([seed, 1, i])) for i, split in enumerate(Split)}
    for clip in clips:
        cards = decks[clip.splits.get(Task.EXPR, Split.TRAIN)]
        performance = perform(np.random.default_rng([seed, 2, clip.index]), clip.lines, cards)
        for task, split in clip.splits.items():
            counts += _write_annotation(root, clip, task, performance, seed)
            if split is Split.VALIDATION:
                lines = np.arange(1, clip.lines + 1, dtype=np.int32)
                best = performance.best_predictions(task)
                oracle[task].append(VideoPredictions(clip.video, lines, best))
        _write_crops(root, clip, performance, seed)
        counts += _count(clip)
        done += clip.frames
        progress(done, total)
    for task, predictions in oracle.items():
        write_predictions(root / "oracle" / f"{task.value}.csv", task, predictions)
    (root / "README.txt").write_text(_README, encoding="ascii")
    note: Note = {
        "synthetic": True,
        "parameters": parameters,
        "counts": dict(sorted(counts.items())),
    }
    _write_json(root / SYNTHETIC_MARKER, note)
    (root / _BEGUN).unlink(missing_ok=True)


def _claim(root: Path, parameters: dict[str, int]) -> bool:
    """Whether the tree is finished; notes that it is begun if it is not."""
    for name in (SYNTHETIC_MARKER, _BEGUN):
        path = root / name
        if path.is_file():
            _check_parameters(root, _read_note(path)["parameters"], parameters)
            return name == SYNTHETIC_MARKER
    # All that a run leaves that is killed at its very start.
    leftover = f".{_BEGUN}{_UNFINISHED}"
    if root.is_file() or (root.is_dir() and any(p.name != leftover for p in root.iterdir())):
        raise ConflictError(
            f"{root} holds something that is not a synthetic tree.",
            "a folder that is absent or empty, or a synthetic tree with the same parameters",
            "Give another folder; nothing was changed in this one.",
        )
    root.mkdir(parents=True, exist_ok=True)
    _write_json(root / _BEGUN, {"synthetic": True, "parameters": parameters})
    return False


def _read_note(path: Path) -> Note:
    try:
        note: Note = json.loads(path.read_text(encoding="utf-8"))
        if note["synthetic"] is True and isinstance(note["parameters"], dict):
            return note
    except (ValueError, KeyError, TypeError):
        pass
    raise ConflictError(
        f"{path} is not a note of `raffect synth`.",
        "a folder that is absent or empty, or a synthetic tree",
        "Give another folder; nothing was changed in this one.",
    )


def _check_parameters(root: Path, there: dict[str, int], asked: dict[str, int]) -> None:
    if there == asked:
        return
    names = sorted({*there, *asked})
    differing = [name for name in names if there.get(name) != asked.get(name)]
    raise ConflictError(
        f"{root} holds a synthetic tree with other parameters: "
        + ", ".join(f"{n} {there.get(n)} (asked: {asked.get(n)})" for n in differing),
        "the same parameters again, or another folder",
        "Give another folder, or delete this one first.",
    )


def _write_annotation(
    root: Path, clip: Clip, task: Task, performance: Performance, seed: int
) -> Counter[str]:
    rng = np.random.default_rng([seed, 3, clip.index, list(Task).index(task)])
    labels = clip.corrupt(task, performance.annotate(task, rng), rng)
    folder = root / "annotations" / SPECS[task].folders[0] / SPLIT_FOLDERS[clip.splits[task]]
    folder.mkdir(parents=True, exist_ok=True)
    rows = (",".join(f"{round(value, 4):g}" for value in row) for row in labels.tolist())
    text = "\n".join([SPECS[task].header, *rows]) + "\n"
    (folder / f"{clip.video}.txt").write_text(text, encoding="ascii")
    valid = SPECS[task].valid(labels)
    partly = (~valid & ~np.all(labels == SPECS[task].invalid, axis=1)).sum()
    return Counter(
        {
            f"{task}_{clip.splits[task]}_videos": 1,
            f"{task}_invalid_lines": int((~valid).sum()),
            f"{task}_partly_invalid_lines": int(partly),
            f"{task}_valid_without_crop": int(valid[: clip.frames][~clip.present].sum())
            + int(valid[clip.frames :].sum()),
            "annotation_lines": clip.lines,
        }
    )


def _write_crops(root: Path, clip: Clip, performance: Performance, seed: int) -> None:
    folder = root / clip.image_root / clip.video
    if folder.is_dir():
        return
    # Named as unfinished until it is complete; files of a killed run in it are overwritten.
    unfinished = folder.with_name(f".{clip.video}{_UNFINISHED}")
    unfinished.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, 4, clip.index])
    frames = np.flatnonzero(clip.present) + 1
    crops = faces.draw(rng, faces.invent(rng), performance, frames)
    for frame, crop in zip(frames, crops, strict=True):
        (unfinished / crop_name(int(frame))).write_bytes(crop)
    unfinished.rename(folder)


def _count(clip: Clip) -> Counter[str]:
    return Counter(
        {
            "videos": 1,
            "frames": clip.frames,
            "crops": int(clip.present.sum()),
            "missing_at_start": int(not clip.present[0]),
            "missing_at_end": int(not clip.present[-1]),
            "missing_in_middle": int((np.diff(np.flatnonzero(clip.present)) > 1).any()),
            "one_line_more": int(clip.lines > clip.frames),
            "not_annotated": int(not clip.splits),
        }
    )


def _write_json(path: Path, value: Note) -> None:
    temporary = path.with_name(f".{path.name}{_UNFINISHED}")
    temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="ascii")
    temporary.replace(path)
