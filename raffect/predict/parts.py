"""A folder of videos, one after the other: each one's table is kept beside the output.

`OUT.parts/` has a Parquet file per video, which appears whole. Its metadata binds it to the bytes
of the video (by size and time of change), to the models, the detector and the options: what is
given again takes it up, and makes anew what has changed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raffect import __version__
from raffect.affwild2.csvfile import whole_file
from raffect.errors import DataError
from raffect.inputs import reason_of
from raffect.predict.table import with_video, write_tables
from raffect.predict.video import PersonSeen, PredictedVideo, VideoPredictor, VideoSummary
from raffect.settings import hash_json
from raffect.text import printable

_ENDINGS = (
    ".3g2 .3gp .asf .avi .divx .dv .f4v .flv .gif .m2ts .m2v .m4v .mjpeg .mkv .mov .mp4 .mpeg .mpg"
    " .mts .mxf .nut .ogv .qt .ts .vob .webm .wmv .y4m"
)
VIDEO_SUFFIXES = frozenset(_ENDINGS.split())
_META = b"raffect"


def find_videos(folder: Path, *own: Path) -> tuple[list[Path], list[str]]:
    """The videos directly in a folder, by name, and the names of what is none by its ending.

    What is our `own` there is neither.

    Raises:
        DataError: It can't be listed, or has no video.
    """
    try:
        entries = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise DataError(
            f"{folder} can't be read: {reason_of(error)}.", "a folder of videos", "Look at it."
        ) from None
    # Hidden ones are the file system's own, such as macOS's `._a.mp4`.
    ours = {path.absolute() for path in own}
    shown = [
        path for path in entries if not path.name.startswith(".") and path.absolute() not in ours
    ]
    videos = [path for path in shown if path.suffix.lower() in VIDEO_SUFFIXES and _is_file(path)]
    others = [path.name for path in shown if path not in videos]
    if not videos:
        held = f"{len(others):,} other files or folders" if others else "nothing"
        raise DataError(
            f"{folder} holds no video; it holds {held}.",
            "videos directly in it, known by their ending: .mp4, .mkv, .mov, .webm, .avi, ...",
            "Give the folder that holds the videos, or one file.",
        )
    return videos, others


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


@dataclass(frozen=True)
class Parts:
    """The tables of a folder's videos.

    Attributes:
        made_by: Digest of all that a table depends on but the video.
    """

    folder: Path
    made_by: str

    @classmethod
    def of(cls, out: Path, predictor: VideoPredictor) -> Parts:
        """Those beside an output."""
        detector = predictor.detector
        found = "aligned" if detector is None else [detector.name, detector.digest, detector.size]
        wanted = predictor.wanted
        made_by = hash_json([__version__, predictor.chosen.digest(), found, wanted])
        return cls(out.with_name(f"{out.name}.parts"), made_by)

    def key(self, video: Path) -> str:
        """Of a video's table; another one where the video has changed."""
        found = video.stat()
        return hash_json([self.made_by, _digest(video.name), found.st_size, found.st_mtime_ns])

    def finished(self, video: Path) -> VideoSummary | None:
        """What an earlier command found in a video, if its table is here and still right."""
        try:
            facts = json.loads(pq.read_schema(self._path(video)).metadata[_META])
            if facts["key"] != self.key(video):
                return None
        except (OSError, KeyError, TypeError, ValueError):
            return None
        told = {name: value for name, value in facts["summary"].items() if name != "rows"}
        persons = tuple(PersonSeen(**one) for one in told.pop("persons"))
        return VideoSummary(persons=persons, **{**told, "absent": tuple(told["absent"])})

    def keep(self, video: Path, key: str, predicted: PredictedVideo) -> None:
        """Keep the table of a video, which had this key before it was read.

        Raises:
            DataError: It can't be written.
        """
        facts = {"key": key, "summary": predicted.summary.to_json()}
        table = predicted.table.replace_schema_metadata({_META: json.dumps(facts)})
        with whole_file(self._path(video)) as path:
            pq.write_table(table, path)

    def join(self, out: Path, schema: pa.Schema, videos: Sequence[Path]) -> int:
        """Write the tables of some videos as one file; returns its rows.

        Raises:
            DataError: It can't be written.
        """
        first = with_video(schema.empty_table(), "").schema

        def tables() -> Iterator[pa.Table]:
            for video in videos:
                table = pq.read_table(self._path(video)).replace_schema_metadata(None)
                yield with_video(table, video.name)

        return write_tables(out, first, tables())

    def _path(self, video: Path) -> Path:
        # A name as long as a file system takes could not be made longer.
        return self.folder / f"{printable(video.stem)[:40]}-{_digest(video.name)[:12]}.parquet"


def _digest(name: str) -> str:
    """Of a file's name, which may not be UTF-8."""
    return hashlib.sha256(os.fsencode(name)).hexdigest()
