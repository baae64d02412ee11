"""The videos of the synthetic dataset: names, lengths, splits, subjects, and the real quirks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raffect.affwild2.tasks import SPECS, Split, Task

IMAGE_ROOTS = ("cropped_aligned", "cropped_aligned_new_50_vids")
"""Several, because the real crops ship in batches."""

# Quantiles of the video lengths relative to the median. The tails are cut (the real ones are 0.02
# and 12 medians), so that a small set is not one long video.
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_LENGTHS = (0.125, 0.2, 0.63, 1.0, 1.45, 2.4, 3.0)
_SHORTEST = 6

# Splits of VA, EXPR and AU per source video: every subset of the tasks, different splits of one
# video in different tasks, about 30 % validation, and one test video in 20.
_PATTERNS = (
    *("TTT", "VVV", "TVT", "VT-", "TT-", "T-V", "-TT", "TVV", "--T", "TTT"),
    *("TTT", "VVV", "TVT", "VT-", "TT-", "T-V", "-TT", "TVV", "--T", "---"),
)
_SPLITS = {"T": Split.TRAIN, "V": Split.VALIDATION}
_NAMES = ("{0}-30-1280x720", "{0}-30-1280x720-1", "video{0}", "video{0}_1", "4{0}")


@dataclass(frozen=True)
class Clip:
    """One subject of one source video: a folder of crops and up to three annotation files.

    Attributes:
        video: Name of its folder, with the subject's suffix.
        image_root: Name of the root that the folder lies in.
        present: Which frames have a crop, `(frames,)`.
        away: Number of frames at the start without the subject.
        lines: Annotation lines, usually one more than frames.
        splits: The split in each task that it is annotated for.
    """

    index: int
    video: str
    image_root: str
    present: NDArray[np.bool_]
    away: int
    lines: int
    splits: dict[Task, Split]

    @property
    def frames(self) -> int:
        """Frames of the source video, those without a crop included."""
        return len(self.present)

    def corrupt(
        self, task: Task, labels: NDArray[np.float64], rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """The labels `(lines, label_width)` with invalid ones as in a real file."""
        invalid = SPECS[task].invalid
        labels = labels.copy()
        run = max(1, self.frames // 60)
        if self.index % 2 == 0 or rng.random() < 0.5:
            start = int(rng.integers(self.lines - run))
            labels[start : start + run] = invalid
        missing = np.flatnonzero(~self.present)
        # The real AU files have almost no valid label without a crop, the others 1.5 to 2 %.
        share = 0.95 if task is Task.AU else 0.3
        labels[missing[rng.random(len(missing)) < share]] = invalid
        labels[: self.away] = invalid
        if task is not Task.EXPR:
            # A row is invalid as a whole if a single value of it is.
            row = int(rng.integers(self.away, self.lines))
            labels[row : row + run, int(rng.integers(labels.shape[1]))] = invalid
        return labels


def cast(videos: int, frames: int, seed: int) -> list[Clip]:
    """The clips of a synthetic dataset of `videos` folders; `frames` is their median length."""
    rng = np.random.default_rng([seed, 0])
    pairs = 2 * max(1, videos // 80)
    sources = videos - pairs
    lengths = _lengths(rng, sources, frames, pairs)
    clips: list[Clip] = []
    kinds = len(_NAMES)
    for i in range(sources):
        name = _NAMES[i % kinds].format(10 + 3 * (i // kinds))
        pattern = _PATTERNS[i % len(_PATTERNS)]
        splits = {t: _SPLITS[c] for t, c in zip(Task, pattern, strict=True) if c != "-"}
        # Two subjects are `_left` and `_right`, or one without a suffix and one with.
        suffixes = ("" if i % 2 or i >= pairs else "_left", "_right")
        for subject, suffix in enumerate(suffixes[: 2 if i < pairs else 1]):
            if suffix == "_right" and i % 2:
                splits = {task: split for task, split in splits.items() if task is not Task.AU}
            away = lengths[i] // 8 if subject else 0
            clips.append(
                Clip(
                    index=len(clips),
                    video=name + suffix,
                    image_root=IMAGE_ROOTS[i % 4 == 3],
                    present=_present(rng, lengths[i], len(clips), away),
                    away=away,
                    lines=lengths[i] + (len(clips) % 10 != 9),
                    splits=splits,
                )
            )
    return clips


def _lengths(rng: np.random.Generator, sources: int, frames: int, pairs: int) -> list[int]:
    spread = np.interp(np.linspace(0.0, 1.0, sources), _QUANTILES, _LENGTHS)
    # A pair counts twice; of median length, it does not distort the total or the splits.
    order = np.argsort(np.abs(spread - 1.0), kind="stable")
    spread = np.concatenate([spread[order[:pairs]], rng.permutation(spread[order[pairs:]])])
    return [max(_SHORTEST, round(share * frames)) for share in spread]


def _present(rng: np.random.Generator, frames: int, role: int, away: int) -> NDArray[np.bool_]:
    """Which frames have a crop: single ones are missing, and a run at start, middle or end."""
    present = rng.random(frames) >= 0.008
    run = max(1, frames // 50)
    if role % 3 == 0:
        present[:run] = False
    elif role % 3 == 1:
        present[frames - run :] = False
    else:
        middle = int(rng.integers(frames // 3, frames // 2))
        present[middle : middle + run] = False
    present[:away] = False
    present[frames * 2 // 3] = True
    return present
