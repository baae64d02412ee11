"""Small raw trees in the layout of Aff-Wild2, written by hand for tests."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from raffect.affwild2.tasks import SPECS, SPLIT_FOLDERS, Split, Task, crop_name
from raffect.store import Store

DEFAULT_ROOT = "cropped_aligned"


def jpeg(shade: int = 100, size: int = 112) -> bytes:
    """A crop of one shade of grey, with a gradient so that a cut file lacks something."""
    image = Image.linear_gradient("L").resize((size, size)).convert("RGB")
    image.paste((shade % 256, 80, 120), (0, 0, size // 2, size // 2))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@dataclass(frozen=True)
class RawTree:
    """A raw tree below `folder`: roots of crops by name, and `annotations`."""

    folder: Path

    @property
    def annotations(self) -> Path:
        return self.folder / "annotations"

    def root(self, name: str = DEFAULT_ROOT) -> Path:
        return self.folder / name

    def crops(self, video: str, frames: Iterable[int], root: str = DEFAULT_ROOT) -> Path:
        """Write a video's crops; each frame looks different."""
        folder = self.root(root) / video
        folder.mkdir(parents=True, exist_ok=True)
        for frame in frames:
            (folder / crop_name(frame)).write_bytes(jpeg(frame))
        return folder

    def annotate(
        self,
        task: Task,
        split: Split,
        video: str,
        rows: Sequence[str],
        folder: str | None = None,
        newline: str = "\n",
    ) -> Path:
        """Write an annotation file of these data lines."""
        place = self.annotations / (folder or SPECS[task].folders[0]) / SPLIT_FOLDERS[split]
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{video}.txt"
        text = newline.join([SPECS[task].header, *rows]) + newline
        path.write_bytes(text.encode())
        return path


def upload(folder: Path, store: Store) -> None:
    """Copy a tree into a bucket as a console does it: an empty object stands for each folder."""
    files = {}
    for path in sorted(folder.rglob("*")):
        key = store.path(path.relative_to(folder).as_posix())
        files[f"{key}/" if path.is_dir() else key] = b"" if path.is_dir() else path.read_bytes()
    store.filesystem.pipe(files)


def quirky_tree(folder: Path) -> RawTree:
    """A tree with every quirk of the dataset; QUIRKY_COUNTS holds what is in it, by hand."""
    tree = RawTree(folder)
    # Gaps at the start, in the middle and at the end; one line more than the video's 9 frames.
    tree.crops("28-30-1280x720-1", [3, 4, 6, 7])
    va = ["0.1,0.2"] * 3 + ["-5,-5", "-5,0.3", "0.5,-5"] + ["-1,1"] * 4
    tree.annotate(Task.VA, Split.TRAIN, "28-30-1280x720-1", va, newline="\r\n")
    # The same video in another split of another task, in the folder of older years.
    expr = ["0", "-1", "7", "4", "4", "-1", "1", "2", "3", "6"]
    tree.annotate(
        Task.EXPR,
        Split.VALIDATION,
        "28-30-1280x720-1",
        expr,
        folder="EXPR_Classification_Challenge",
    )
    # Two subjects of one video, in the second batch; 'video10_1' only looks like a subject.
    second = "cropped_aligned_new_50_vids"
    tree.crops("video10_1_left", [1, 2, 3], second)
    tree.crops("video10_1_right", [1, 2], second)
    au = ["0,1,0,1,0,1,0,1,0,1,0,1", "1,1,1,1,1,1,1,1,1,1,1,-1", "0,0,0,0,0,0,0,0,0,0,0,0"]
    tree.annotate(Task.AU, Split.TRAIN, "video10_1_left", au)
    tree.annotate(Task.AU, Split.VALIDATION, "video10_1_right", au)
    tree.annotate(Task.VA, Split.TRAIN, "video10_1_right", ["0.25,0.75"] * 3)
    # A video whose batches lie in both roots, and whose frame 5 is cut off.
    tree.crops("454", [1, 2])
    cut = tree.crops("454", [5, 8], second) / crop_name(5)
    cut.write_bytes(cut.read_bytes()[:-400])
    tree.annotate(Task.VA, Split.VALIDATION, "454", ["0,0"] * 6)
    # A test video has no annotations, an annotated one no crops, and some things are misplaced.
    tree.crops("99", [1, 100000])
    tree.annotate(Task.AU, Split.TRAIN, "77", ["-1" + ",-1" * 11, au[0]])
    root = tree.root()
    (root / "readme.txt").write_text("hello")
    (root / ".DS_Store").write_text("")
    (root / "454" / "1.jpg").write_bytes(jpeg())
    (root / "454" / "00009.gif").write_bytes(jpeg())
    (root / "454" / ".hidden").write_text("")
    (root / "454" / "sub").mkdir()
    (root / "empty").mkdir()
    (tree.root(second) / "454" / crop_name(2)).write_bytes(jpeg(9))
    (tree.annotations / "VA_Estimation_Challenge" / "Train_Set" / "._454.txt").write_text("x")
    (tree.annotations / "VA_Estimation_Challenge" / "Train_Set" / "notes.md").write_text("x")
    return tree


QUIRKY_ROOTS = (DEFAULT_ROOT, "cropped_aligned_new_50_vids")
QUIRKY_COUNTS = {
    # 4 + 3 + 2 crops, 2 + 2 of video 454 less the cut one, and 2 of the test video.
    "crops": {"readable": 14, "unreadable": ["454/00005.jpg"]},
    "labels": {
        "va": {
            # 10 + 3 lines; 7 + 3 valid; without crop: frames 1, 2, 8, 9, 10 and frame 3.
            "train": {"videos": 2, "frames": 13, "valid": 10, "valid_without_crop": 6},
            # Frames 3 to 6 of video 454, the unreadable one included; frame 8 has no line.
            "validation": {"videos": 1, "frames": 6, "valid": 6, "valid_without_crop": 4},
        },
        "expr": {
            "train": {"videos": 0, "frames": 0, "valid": 0, "valid_without_crop": 0},
            # Valid: 1, 3, 4, 5, 7, 8, 9, 10; of those 3, 4 and 7 have a crop.
            "validation": {"videos": 1, "frames": 10, "valid": 8, "valid_without_crop": 5},
        },
        "au": {
            # The left subject (3 lines, 2 valid, all with crops) and video 77 (1 valid of 2).
            "train": {"videos": 2, "frames": 5, "valid": 3, "valid_without_crop": 1},
            # The right subject: frame 3 is valid and has no crop.
            "validation": {"videos": 1, "frames": 3, "valid": 2, "valid_without_crop": 1},
        },
    },
}


def write_raw_tree(folder: Path) -> Path:
    """A small tree without quirks: crops in `images`, two videos annotated for every task."""
    tree = RawTree(folder)
    rows = {Task.VA: "0.25,-0.5", Task.EXPR: "4", Task.AU: "0,1,0,1,0,1,0,1,0,1,0,1"}
    for video, split in (("a", Split.TRAIN), ("b", Split.VALIDATION)):
        tree.crops(video, range(1, 5), root="images")
        for task, row in rows.items():
            tree.annotate(task, split, video, [row] * 5)
    return folder
