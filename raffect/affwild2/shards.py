"""Shards of crops: how videos are distributed over files, and what one file holds.

Columns: video and source (dictionary strings), frame (int32, 1-based), jpeg (binary, the original
file, also where it is PNG, WebP or BMP); sorted by (video, frame). A video is never split over
files.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raffect.affwild2.naming import MOST_BYTES
from raffect.affwild2.pixels import UnreadableImageError, read_image
from raffect.affwild2.scan import VideoCrops
from raffect.affwild2.tasks import crop_name, image_location, source_of
from raffect.errors import DataError
from raffect.store import Stage
from raffect.store.layout import FRAMES
from raffect.store.raw import READERS, RawFile, ahead
from raffect.store.stage import StagePart
from raffect.text import printable

ROWS_PER_GROUP = 1000
"""Row group size: about 4 MB of crops."""


@dataclass(frozen=True, eq=False)
class Shard:
    """A file of crops to be written."""

    name: str
    videos: tuple[VideoCrops, ...]

    @property
    def crops(self) -> int:
        """Number of crops, unreadable ones included."""
        return sum(len(video.frames) for video in self.videos)


def frames_files(names: Iterable[str]) -> list[str]:
    """Those of a dataset's files that hold crops, in order."""
    return [name for name in names if name.startswith(f"{FRAMES}/")]


def read_shard(data: bytes | memoryview, columns: Sequence[str]) -> pa.Table:
    """Columns of a file of crops."""
    return pq.ParquetFile(pa.BufferReader(data)).read(list(columns))


def plan_shards(videos: Sequence[VideoCrops], shard_bytes: int) -> list[Shard]:
    """Distribute videos, in order, over the fewest shards of about equal size below `shard_bytes`.

    As videos are not split, a shard may be larger by part of a video.
    """
    sizes = np.array([video.bytes for video in videos], dtype=np.int64)
    count = max(1, -(-int(sizes.sum()) // shard_bytes))
    # A video goes to the shard whose share of all bytes contains its midpoint.
    middles = np.cumsum(sizes) - sizes / 2
    shares = np.minimum(middles * count // max(1, sizes.sum()), count - 1).astype(int)
    filled = np.unique(shares)
    return [
        Shard(
            name=f"{FRAMES}/{number:05d}.parquet",
            videos=tuple(videos[i] for i in np.flatnonzero(shares == share).tolist()),
        )
        for number, share in enumerate(filled)
    ]


def write_shard(stage: Stage, shard: Shard) -> StagePart:
    """Read, verify and write a shard's crops.

    Every crop is decoded in full; those that do not decode are left out and listed in the part's
    facts: `{"videos": {video: crops}, "rows": n, "unreadable": {"video/00005.jpg": why}}`.

    Raises:
        DataError: The raw folders are not visible to this process.
    """
    unreadable: dict[str, str] = {}
    counts = {video.video: 0 for video in shard.videos}
    names = pa.array(list(counts), pa.string())
    sources = pa.array([source_of(name) for name in counts], pa.string()).dictionary_encode()
    sink = io.BytesIO()
    schema = pa.schema(
        {
            "video": pa.dictionary(pa.int32(), pa.string()),
            "source": pa.dictionary(pa.int32(), pa.string()),
            "frame": pa.int32(),
            "jpeg": pa.binary(),
        }
    )
    writer = pq.ParquetWriter(
        sink,
        schema,
        compression="none",
        use_dictionary=["video", "source"],
        write_statistics=["video", "frame"],
    )
    rows: list[tuple[int, int, bytes]] = []

    def write() -> None:
        """A row group: the whole shard at once would be in memory three times."""
        of, frames, jpegs = zip(*rows, strict=True) if rows else ((), (), ())
        videos = pa.array(of, pa.int32())
        columns = [
            pa.DictionaryArray.from_arrays(videos, names),
            pa.DictionaryArray.from_arrays(sources.indices.take(videos), sources.dictionary),
            pa.array(frames, pa.int32()),
            pa.array(jpegs, pa.binary()),
        ]
        writer.write_table(pa.table(columns, schema), ROWS_PER_GROUP)
        rows.clear()

    with ThreadPoolExecutor(READERS) as pool, writer:
        for number, video in enumerate(shard.videos):
            files = map(video.file, range(len(video.frames)))
            contents = ahead(pool, _try_crop, files, 4 * READERS)
            for index, (frame, content) in enumerate(
                zip(video.frames.tolist(), contents, strict=True)
            ):
                if isinstance(content, UnreadableImageError):
                    name = printable(video.file(index).name)
                    told = "" if name == crop_name(frame) else f"{name}: "
                    unreadable[image_location(video.video, frame)] = f"{told}{content}"
                    continue
                counts[video.video] += 1
                rows.append((number, frame, content))
                if len(rows) == ROWS_PER_GROUP:
                    write()
        if rows or not any(counts.values()):
            write()
    facts = {"videos": counts, "rows": sum(counts.values()), "unreadable": unreadable}
    return stage.write_part(shard.name, sink.getvalue(), facts)


def _try_crop(file: RawFile) -> bytes | UnreadableImageError:
    try:
        return read_crop(file)
    except UnreadableImageError as error:
        return error


def read_crop(file: RawFile) -> bytes:
    """The content of a crop that decodes in full.

    Raises:
        UnreadableImageError: It does not, or is no file that a crop could be.
        DataError: It does not exist, although the scan found it.
        StoreError: The bucket can't be reached.
    """
    try:
        data = file.folder.read(file.name, MOST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{file} was found by the scan and is not there for the worker that reads it.",
            "raw folders that all nodes see under the same path, unchanged while prepare runs",
            "Put them on a shared file system, or prepare on one machine; then give the command "
            "again: it continues."
            if file.folder.is_local
            else "Run the command again with --overwrite: it lists the bucket anew.",
        ) from None
    except OSError as error:
        raise UnreadableImageError(error.strerror or str(error)) from None
    read_image(data)
    return data
