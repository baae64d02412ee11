"""Check: count the rows of the store's dataset and verify each of its files."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
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
from raffect.affwild2.shards import frames_files
from raffect.affwild2.tasks import SPECS, Task, image_location, source_of
from raffect.context import Progress, ignore
from raffect.errors import StoreError
from raffect.store import DATASET, FileEntry, Manifest, Store, read_manifest
from raffect.store.layout import MANIFEST
from raffect.store.stage import diff

Crops = dict[str, NDArray[np.int32]]


def check(store: Store, progress: Progress = ignore) -> DatasetCounts:
    """Verify the dataset's files and count their rows, with one file at a time in memory.

    Only the unreadable crops are taken from the manifest, as they are not in the store;
    `progress` counts files.

    Raises:
        NotThereError: The store holds no finished dataset.
        StoreError: A file is missing or is not what the manifest says, or counts differ.
    """
    manifest = read_manifest(store, DATASET)
    entries = {entry.name: entry for entry in manifest.files}
    names = [*frames_files(manifest), *(labels_file(task) for task in Task)]
    crops: Crops = {}
    labels: dict[Task, dict[str, VideoLabels]] = {}
    for done, name in enumerate(names):
        progress(done, len(names))
        if name not in entries:
            raise _wrong(store, name, "it is not in the manifest")
        data = _read_verified(store, entries[name])
        task = next((task for task in Task if name == labels_file(task)), None)
        if task is None:
            _add_crops(store, name, data, crops)
        else:
            labels[task] = from_parquet(task, data)
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


def _read_verified(store: Store, entry: FileEntry) -> bytes:
    try:
        data = store.read_bytes(f"{DATASET}/{entry.name}")
    except FileNotFoundError:
        raise _wrong(store, entry.name, "it is missing") from None
    if len(data) != entry.size:
        got = f"it has {len(data):,} bytes, where the manifest says {entry.size:,}"
        raise _wrong(store, entry.name, got)
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise _wrong(store, entry.name, "its SHA-256 is not the manifest's")
    return data


def _add_crops(store: Store, name: str, data: bytes, crops: Crops) -> None:
    """Add a shard's frames, after verifying what other stages rely on."""
    table = pq.read_table(pa.BufferReader(data), columns=["video", "source", "frame"])
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
