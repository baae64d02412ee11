"""The three tasks of ABAW: columns, invalid labels and folder names."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from raffect.errors import SettingsError

E = TypeVar("E", bound=StrEnum)


class Task(StrEnum):
    """A task of the challenge; users type its value."""

    VA = "va"
    EXPR = "expr"
    AU = "au"


class Split(StrEnum):
    """A split of a task; a video may be in different splits of different tasks."""

    TRAIN = "train"
    VALIDATION = "validation"


SPLIT_FOLDERS = {Split.TRAIN: "Train_Set", Split.VALIDATION: "Validation_Set"}
SUBJECT_SUFFIXES = ("_left", "_right")
ACTION_UNIT_THRESHOLD = 0.5
"""An action unit counts as active from this probability on (the challenge's rule)."""


@dataclass(frozen=True)
class TaskSpec:
    """What the dataset and the challenge define about a task.

    Attributes:
        columns: Names of the prediction columns; as many as the model has outputs.
        label_columns: Names of the label columns in the store.
        header: First line of an annotation file.
        folders: Names of the challenge folder, the newest first.
        invalid: Label of a frame that must not be scored.
        label_dtype: Type of the label columns in the store.
    """

    columns: tuple[str, ...]
    label_columns: tuple[str, ...]
    header: str
    folders: tuple[str, ...]
    invalid: int
    label_dtype: str
    score_name: str

    @property
    def outputs(self) -> int:
        """Number of model outputs per frame."""
        return len(self.columns)

    @property
    def label_width(self) -> int:
        """Number of label values per frame."""
        return len(self.label_columns)

    def valid(self, values: NDArray[np.floating | np.integer]) -> NDArray[np.bool_]:
        """Which rows of labels `(frames, label_width)` may be scored.

        A row with any invalid value is invalid as a whole, as in every public implementation.
        """
        return np.asarray(np.all(values != self.invalid, axis=1))


_EXPRESSIONS = (
    "Neutral",
    "Anger",
    "Disgust",
    "Fear",
    "Happiness",
    "Sadness",
    "Surprise",
    "Other",
)
_ACTION_UNITS = tuple(f"AU{n}" for n in (1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26))

SPECS: dict[Task, TaskSpec] = {
    Task.VA: TaskSpec(
        columns=("valence", "arousal"),
        label_columns=("valence", "arousal"),
        header="valence,arousal",
        folders=("VA_Estimation_Challenge",),
        invalid=-5,
        label_dtype="float32",
        score_name="mean concordance correlation coefficient",
    ),
    Task.EXPR: TaskSpec(
        columns=_EXPRESSIONS,
        label_columns=("expression",),
        header=",".join(_EXPRESSIONS),
        folders=("EXPR_Recognition_Challenge", "EXPR_Classification_Challenge"),
        invalid=-1,
        label_dtype="int8",
        score_name="macro F1 over 8 expressions",
    ),
    Task.AU: TaskSpec(
        columns=_ACTION_UNITS,
        label_columns=_ACTION_UNITS,
        header=",".join(_ACTION_UNITS),
        folders=("AU_Detection_Challenge",),
        invalid=-1,
        label_dtype="int8",
        score_name="mean F1 over 12 action units",
    ),
}


def parse_task(text: str) -> Task:
    """The task a user named; SettingsError if there is none."""
    return _parse(Task, "task", text, "Give one of them, e.g. `raffect tune va`.")


def parse_split(text: str) -> Split:
    """The split a user named; SettingsError if there is none."""
    return _parse(Split, "split", text, "Give one of them with --split.")


class Fold(NamedTuple):
    """One of several folds, counted from 1; `str` gives it as users type it."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


_FOLD = re.compile(r"([0-9]{1,4})/([0-9]{1,4})")


def parse_fold(text: str) -> Fold:
    """The fold that a user named; SettingsError if there is none."""
    match = _FOLD.fullmatch(text.strip())
    fold = Fold(*map(int, match.groups())) if match else Fold(0, 0)
    if not 1 <= fold.number <= fold.of or fold.of < 2:
        raise SettingsError(
            f"There is no fold {text!r}.",
            "i/k: at least 2 folds, and i from 1 to k, e.g. 1/5",
            "Give one with --fold; all k of them are the cross-validation.",
        )
    return fold


def _parse(kind: type[E], noun: str, text: str, next_step: str) -> E:
    try:
        return kind(text.lower())
    except ValueError:
        names = ", ".join(member.value for member in kind)
        raise SettingsError(f"There is no {noun} {text!r}.", names, next_step) from None


def source_of(video: str) -> str:
    """The source video of an annotated subject: the name without a final `_left` or `_right`.

    Folds and splits must group by it, or the same clip would be on both sides.
    """
    for suffix in SUBJECT_SUFFIXES:
        if video.endswith(suffix) and len(video) > len(suffix):
            return video[: -len(suffix)]
    return video


def name_fault(video: str) -> str | None:
    """Why a video can't be called so; None if it can.

    Its name stands in Parquet and JSON, which are UTF-8, and in predictions files: lines with
    commas between values, without quoting, whose names are read without the space around them.
    """
    if any(unicodedata.category(character) == "Cs" for character in video):
        return "it is not UTF-8"
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in video):
        return "it has a line end or another control character"
    if "," in video:
        return "it has a comma"
    return "it begins or ends with a space" if video != video.strip() else None


def crop_name(frame: int) -> str:
    """File name of the crop of a 1-based frame: five digits, more when the number needs them."""
    return f"{frame:05d}.jpg"


def image_location(video: str, frame: int) -> str:
    """How the challenge's files name a frame, e.g. `2-30-640x360/00001.jpg`."""
    return f"{video}/{crop_name(frame)}"
