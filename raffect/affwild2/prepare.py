"""Prepare: scan the raw trees, join crops with annotations, and write shards with Ray Data.

Workers read the crops: on a cluster folders must be mounted under the same path on all nodes, and
for a bucket these need credentials of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import ray.data
from numpy.typing import NDArray

from raffect.affwild2.annotations import digest_annotations, find_annotations, read_all
from raffect.affwild2.findings import find_odd, findings_of, noted, refuse_warnings
from raffect.affwild2.labels import VideoLabels, count_dataset, labels_file, to_parquet
from raffect.affwild2.naming import FIRST_FRAME, Problem
from raffect.affwild2.pixels import FORMATS
from raffect.affwild2.scan import Scan, is_synthetic, scan
from raffect.affwild2.shards import Shard, plan_shards, write_shard
from raffect.affwild2.tasks import Task, image_location
from raffect.context import Context, Progress
from raffect.engine import connect, tell_waiting
from raffect.errors import DataError, SettingsError, outcome_of, outcomes
from raffect.store import DATASET, Manifest, Stage, Store
from raffect.store.stage import StagePart, begun_with

SHARD_BYTES = 128 * 2**20
MOST_NOTED = 10_000
"""Folders with something misplaced that the manifest lists."""
Labels = dict[Task, dict[str, VideoLabels]]


def prepare(
    store: Store,
    images: Sequence[str | Path],
    annotations: str | Path,
    shard_bytes: int | None = None,
    context: Context = Context(),
    first_frame: int | None = None,
    strict: bool = False,
) -> Manifest:
    """Turn raw trees into the store's dataset: scan, join crops with annotations, write shards.

    Crop i belongs to annotation line i. Crops of videos without annotations (test videos) are
    kept, and so are annotated frames without a crop. Resuming an interrupted run keeps the shards
    that verify; on a finished dataset it does nothing. What is odd is in the manifest's notes
    (`findings_of`).

    Args:
        images: Roots of crops, `s3://bucket/prefix` or under paths that every worker can read.
        annotations: Root of the challenges' annotation folders.
        shard_bytes: Target size of a shard's crops; None: as the dataset began, or SHARD_BYTES.
        context: `progress` counts crops.
        first_frame: Number of the first frame in the crops' names, 0 or 1 (see `scan`).
        strict: Finish no dataset with warnings.

    Raises:
        DataError: The raw trees are malformed, or not whole with `strict`: nothing was written; or
            no crop can be read, or too few with `strict`: the dataset is not finished.
        ConflictError: The store's dataset was made from other files or with other settings.
    """
    if shard_bytes is None:
        begun = None if context.overwrite else begun_with(store, DATASET)
        shard_bytes = int((begun or {}).get("shard_bytes", SHARD_BYTES))
    if shard_bytes < 1:
        raise SettingsError(f"shard_bytes is {shard_bytes}.", "at least 1 byte")
    crops = scan(images, first_frame)
    left_out = list(crops.problems)
    labels, summary = _read_annotations(annotations, left_out)
    found = {video.video: video.frames for video in crops.videos}
    if strict:
        refuse_warnings(find_odd(crops, labels, found, {}, left_out))
    config = {
        "annotations": summary,
        "shard_bytes": shard_bytes,
        "images": {
            "videos": len(crops.videos),
            "crops": crops.crops,
            "bytes": sum(video.bytes for video in crops.videos),
            "listing": crops.digest(),
            **({} if crops.first_frame == FIRST_FRAME else {"first_frame": crops.first_frame}),
        },
    }
    stage = Stage(store, DATASET, "dataset", config, {}, context.overwrite)
    if stage.finished is not None:
        if strict:
            refuse_warnings(findings_of(stage.finished))
        return stage.finished
    shards = plan_shards(crops.videos, shard_bytes)
    kept = stage.parts()
    connect(context.address)
    tell_waiting(context.on_note, 1, 1, 0)
    written = list(_write_shards(stage, shards, kept, context.progress))
    for task in Task:
        name = labels_file(task)
        written.append(kept.get(name) or stage.write_part(name, to_parquet(task, labels[task])))
    unreadable: dict[str, str] = {}
    for part in written:
        unreadable |= part.facts.get("unreadable", {})
    if len(unreadable) == crops.crops:
        path, why = min(unreadable.items())
        raise DataError(
            f"None of {crops.crops:,} crops can be read, e.g. {path}: {why}.",
            f"images: {FORMATS}",
            "Check the files and their permissions; of a repository, fetch what its large-file"
            " storage holds.",
        )
    readable = _readable(crops, unreadable)
    findings = find_odd(crops, labels, readable, unreadable, left_out)
    if strict:
        refuse_warnings(findings)
    counts = count_dataset(labels, readable, sorted(unreadable))
    annotated = {name for videos in labels.values() for name in videos}
    notes = {
        "misplaced": [asdict(problem) for problem in left_out[:MOST_NOTED]],
        "unreadable": dict(sorted(unreadable.items())),
        "annotated_without_crops": sorted(annotated - set(found)),
        "crops_without_annotations": sorted(set(found) - annotated),
        "findings": noted(findings),
        "synthetic": any(map(is_synthetic, (*images, annotations))),
    }
    return stage.finish(written, counts, notes)


def _read_annotations(
    root: str | Path, problems: list[Problem]
) -> tuple[Labels, Mapping[str, object]]:
    """The labels, and what about them decides the dataset's content; `problems` takes the rest."""
    files = find_annotations(root, left_out=problems)
    labels = read_all(files)
    summary = {}
    for task in Task:
        of_task = [file for file in files if file.task is task]
        summary[task.value] = {"files": len(of_task), "content": digest_annotations(of_task)}
    return labels, summary


def _write_shards(
    stage: Stage, shards: Sequence[Shard], kept: dict[str, StagePart], progress: Progress
) -> Iterator[StagePart]:
    """All shards' parts: first those kept, then the others as workers finish them."""
    size = {shard.name: shard.crops for shard in shards}
    total = sum(size.values())
    done = sum(size[name] for name in size if name in kept)
    yield from (kept[name] for name in size if name in kept)
    progress(done, total)
    for part in _run(stage, [shard for shard in shards if shard.name not in kept]):
        done += size[part.entry.name]
        progress(done, total)
        yield part


def _run(stage: Stage, shards: Sequence[Shard]) -> Iterator[StagePart]:
    """Write shards with Ray Data, a task for each, in any order; raises a worker's error."""
    if not shards:
        return

    def write(row: dict[str, Any]) -> dict[str, Any]:
        return outcome_of(lambda: write_shard(stage, row["shard"]))

    rows = [{"shard": shard} for shard in shards]
    source = ray.data.from_items(rows, override_num_blocks=len(rows))
    yield from outcomes(source.map(write).iter_rows())


def _readable(crops: Scan, unreadable: dict[str, str]) -> dict[str, NDArray[np.int32]]:
    """Frames with a readable crop, by video."""
    affected = {path.rpartition("/")[0] for path in unreadable}
    readable = {}
    for video in crops.videos:
        frames = video.frames
        if video.video in affected:
            good = [image_location(video.video, n) not in unreadable for n in frames.tolist()]
            frames = frames[good]
        readable[video.video] = frames
    return readable
