"""What is odd about a dataset or was left out of it: told after `prepare`, kept in the manifest.

What makes a model worse without anybody noticing is a warning: videos that lose crops or labels.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raffect.affwild2.labels import VideoLabels
from raffect.affwild2.naming import FIRST_FRAME, TENTH, Problem, ProblemKind
from raffect.affwild2.scan import Scan
from raffect.affwild2.tasks import Task, image_location
from raffect.errors import DataError
from raffect.store import Manifest
from raffect.text import printable

MOST_NAMES = 100
"""Names that are kept of one finding; its count is always exact."""


_KINDS = {
    "losing": ("videos that lose a tenth of their crops", True),
    "annotated_without_crops": ("annotated videos without crops", True),
    "few_crops": ("videos that mostly lack crops", True),
    "outside_crops": ("videos labelled far beyond their crops", True),
    "far_beyond": ("videos with too few lines of labels", True),
    "shifted": ("no crop 0 despite --first-frame 0", True),
    "unreadable": ("crops that can't be read", False),
    "beyond_labels": ("crops past the last line of labels", False),
    "crops_without_annotations": ("videos with crops and without labels", False),
    # With a name that is refused, a whole video is lost.
    **{k.name.lower(): (k.value, k is ProblemKind.VIDEO_NAME) for k in ProblemKind},
}
"""Of each kind its text, and whether it is a warning."""


@dataclass(frozen=True)
class Finding:
    """Something odd: `kind` is for scripts, `text` for people, `names` are the first ones."""

    kind: str
    text: str
    count: int
    names: tuple[str, ...]
    warning: bool = False


def find_odd(
    scanned: Scan,
    labels: Mapping[Task, Mapping[str, VideoLabels]],
    readable: Mapping[str, NDArray[np.int32]],
    unreadable: Mapping[str, str],
    problems: Sequence[Problem],
) -> list[Finding]:
    """Everything odd about a dataset, warnings first.

    Args:
        readable: 1-based frames of each video with a crop that decodes, ascending.
        unreadable: The other crops, as `video/00005.jpg`, and why.
        problems: What was left out of the raw trees.
    """
    annotated: dict[str, list[tuple[Task, VideoLabels]]] = {}
    for task in Task:
        for name, video in sorted(labels.get(task, {}).items()):
            annotated.setdefault(name, []).append((task, video))
    crops = {video.video: len(video.frames) for video in scanned.videos}
    without = sorted(set(annotated) - set(crops))
    unlabelled = sorted(set(crops) - set(annotated))
    lost = Counter(scanned.lost) + Counter(path.rpartition("/")[0] for path in unreadable)
    losing = []
    for name, count in sorted(lost.items()):
        total = crops.get(name, 0) + scanned.lost.get(name, 0)
        if count * TENTH > total:
            losing.append(f"{name} ({count:,} of {total:,})")
    compared, past = _compare(annotated, readable)
    starts = [int(video.frames[0]) for video in scanned.videos]
    shifted = []
    if scanned.first_frame != FIRST_FRAME and FIRST_FRAME not in starts:
        first = scanned.videos[0]
        shifted = [printable(f"{first.video}/{first.file(0)[1]}")]
    findings = [
        _of("losing", losing),
        _of("annotated_without_crops", without),
        *(_of(kind, names) for kind, names in compared.items() if kind != "beyond_labels"),
        _of("shifted", shifted),
        *_of_problems(problems),
        _of("unreadable", [f"{path}: {why}" for path, why in sorted(unreadable.items())]),
        _of("beyond_labels", compared.get("beyond_labels", []), past),
        _of("crops_without_annotations", unlabelled),
    ]
    return _told(findings)


def _of(kind: str, names: Sequence[str], count: int | None = None) -> Finding:
    text, warning = _KINDS[kind]
    count = len(names) if count is None else count
    return Finding(kind, text, count, tuple(names[:MOST_NAMES]), warning)


def _told(findings: Iterable[Finding]) -> list[Finding]:
    """Those of which there are any, warnings first."""
    return sorted(
        (finding for finding in findings if finding.count), key=lambda finding: not finding.warning
    )


def _of_problems(problems: Sequence[Problem]) -> list[Finding]:
    found: dict[ProblemKind, list[Problem]] = {}
    for problem in problems:
        found.setdefault(problem.kind, []).append(problem)
    return [
        _of(kind.name.lower(), [one.path for one in some], sum(one.count for one in some))
        for kind, some in found.items()
    ]


def _compare(
    annotated: Mapping[str, Sequence[tuple[Task, VideoLabels]]],
    readable: Mapping[str, NDArray[np.int32]],
) -> tuple[dict[str, list[str]], int]:
    """Videos whose crops do not fit their labels, by kind, and how many crops are past all labels.

    Usually there is one line more than the video has frames. Of tasks of different lengths the
    shortest counts.
    """
    odd: dict[str, list[str]] = defaultdict(list)
    past = 0
    for name, tasks in annotated.items():
        frames = readable.get(name)
        if frames is None or not len(frames):
            continue
        for task, video in tasks:
            first, last = int(frames[0]), int(frames[-1])
            valid = int(video.valid.sum())
            covered = int(video.valid[frames[frames <= len(video.valid)] - 1].sum())
            outside = int(video.valid[: first - 1].sum() + video.valid[last + 1 :].sum())
            if covered * 2 < valid:
                odd["few_crops"].append(f"{name} ({task.value}: {covered:,} of {valid:,})")
                break
            if outside * TENTH > valid:
                odd["outside_crops"].append(f"{name} ({task.value}: {outside:,} of {valid:,})")
                break
        lines, shortest = min((len(video.valid), task.value) for task, video in tasks)
        beyond = frames[frames > lines]
        past += len(beyond)
        if len(beyond):
            odd["beyond_labels"].append(image_location(name, int(beyond[0])))
        if len(beyond) * TENTH > len(frames):
            count = f"{len(beyond):,} of {len(frames):,}"
            odd["far_beyond"].append(f"{name} ({shortest}: {count})")
    return odd, past


def findings_of(manifest: Manifest) -> list[Finding]:
    """The findings that a dataset's manifest holds; of an older raffect's, what it listed."""
    notes: dict[str, Any] = manifest.notes
    if "findings" in notes:
        return [Finding(**{**one, "names": tuple(one["names"])}) for one in notes["findings"]]
    misplaced: dict[str, list[str]] = {}
    for problem in notes.get("misplaced", []):
        misplaced.setdefault(problem["kind"], []).append(problem["path"])
    kept = ("annotated_without_crops", "unreadable", "crops_without_annotations")
    return _told(
        [
            *(_of(kind, sorted(notes.get(kind, []))) for kind in kept),
            *(
                Finding("misplaced", text, len(names), tuple(names[:MOST_NAMES]))
                for text, names in misplaced.items()
            ),
        ]
    )


def noted(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Findings as JSON types."""
    return [{**asdict(finding), "names": list(finding.names)} for finding in findings]


def refuse_warnings(findings: Sequence[Finding]) -> None:
    """Raise DataError, with all of them, if any finding is a warning."""
    warnings = [
        f"  {finding.text}: {finding.count:,}, e.g. {finding.names[0]}"
        for finding in findings
        if finding.warning
    ]
    if warnings:
        raise DataError(
            "\n".join(["The raw trees are not whole:", *warnings]),
            "raw trees without warnings, as --strict demands",
            "Mend them, or run the command without --strict.",
        )
