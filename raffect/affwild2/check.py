"""Check: count the rows of the store's dataset and verify each of its files."""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raffect.affwild2.labels import (
    DatasetCounts,
    VideoLabels,
    codes_of,
    count_dataset,
    from_parquet,
    labels_file,
    runs,
)
from raffect.affwild2.shards import frames_files, read_shard
from raffect.affwild2.tasks import SPECS, Task, image_location, source_of
from raffect.context import Progress, ignore
from raffect.errors import StoreError
from raffect.store import DATASET, Manifest, Store, read_manifest
from raffect.store.layout import MANIFEST
from raffect.store.stage import diff

Crops = dict[str, NDArray[np.int32]]


def check(store: Store, progress: Progress = ignore) -> DatasetCounts:
    """Verify the dataset's files and count their rows, with one file at a time in memory.

    Only the unreadable crops are taken from the manifest, as they are not in the store;
    `progress` counts files.

    Raises:
        NotThereError: The store holds no finished dataset.
        DamagedError: A file is missing or is not what the manifest says.
        StoreError: Counts differ.
    """
    manifest = read_manifest(store, DATASET)
    files = manifest.files_in(store, DATASET)
    names = [*frames_files(files.entries), *(labels_file(task) for task in Task)]
    crops: Crops = {}
    labels: dict[Task, dict[str, VideoLabels]] = {}
    for done, name in enumerate(names):
        progress(done, len(names))
        if name not in files.entries:
            raise _wrong(store, name, "it is not in the manifest")
        task = next((task for task in Task if name == labels_file(task)), None)
        if task is None:
            columns = ["video", "source", "frame"]
            table = files.parse_table(name, partial(read_shard, columns=columns))
            _add_crops(store, name, table, crops)
        else:
            labels[task] = files.parse(name, partial(from_parquet, task))
            for video in labels[task].values():
                if not np.array_equal(video.valid, SPECS[task].valid(video.values)):
                    what = f"the valid frames of {video.video} are marked wrongly"
                    raise _wrong(store, name, what)
    progress(len(names), len(names))
    counts = count_dataset(labels, crops, _unreadable(store, manifest, crops))
    differences = diff(manifest.counts, counts)
    if differences:
        told = "\n".join(differences)
        raise _wrong(store, MANIFEST, f"its counts are not those of the files:\n{told}")
    return counts


def _wrong(store: Store, name: str, what: str) -> StoreError:
    return StoreError(
        f"{store.where(DATASET)}/{name}: {what}.",
        "files as prepare wrote them",
        "Make the dataset anew: raffect prepare --overwrite ...",
    )


def _add_crops(store: Store, name: str, table: pa.Table, crops: Crops) -> None:
    """Add a shard's frames, after verifying what other stages rely on."""
    videos, codes = codes_of(table["video"])
    sources, source_codes = codes_of(table["source"])
    frames = table["frame"].to_numpy()
    for start, stop in runs(codes):
        video = videos[codes[start]]
        if video in crops:
            raise _wrong(store, name, f"the crops of {video} do not lie together")
        if frames[start] < 1 or np.any(np.diff(frames[start:stop]) < 1):
            raise _wrong(store, name, f"the frames of {video} do not ascend from 1")
        if any(sources[code] != source_of(video) for code in np.unique(source_codes[start:stop])):
            raise _wrong(store, name, f"{video} has another source than {source_of(video)}")
        # A view would keep the columns of every file in memory.
        crops[video] = frames[start:stop].copy()


def _unreadable(store: Store, manifest: Manifest, crops: Crops) -> list[str]:
    """The manifest's list; none of it may be among the crops."""
    listed: list[str] = manifest.counts["crops"]["unreadable"]
    for path in listed:
        video, _, file = path.rpartition("/")
        frame = int(file.partition(".")[0])
        if frame in crops.get(video, ()):
            where = image_location(video, frame)
            raise _wrong(store, MANIFEST, f"{where} is unreadable and among the crops")
    return listed
