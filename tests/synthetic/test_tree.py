from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raffect.affwild2.annotations import find_annotations, load_annotations
from raffect.affwild2.predictions import read_predictions
from raffect.affwild2.tasks import SPECS, Split, Task, crop_name, source_of
from raffect.errors import ConflictError, SettingsError
from raffect.synthetic.cast import IMAGE_ROOTS
from raffect.synthetic.tree import write_synthetic

VIDEOS, FRAMES, SEED = 14, 24, 3


class SyntheticTree:
    """Where the parts of a finished tree lie, and the counts that it says."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.image_roots = [root / name for name in IMAGE_ROOTS]
        self.annotations = root / "annotations"
        self.oracle = {task: root / "oracle" / f"{task.value}.csv" for task in Task}
        self.counts = json.loads((root / "synthetic.json").read_text())["counts"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> SyntheticTree:
    root = tmp_path_factory.mktemp("raw") / "tree"
    write_synthetic(root, VIDEOS, FRAMES, SEED)
    return SyntheticTree(root)


def hashes(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def crops(tree: SyntheticTree) -> dict[str, set[int]]:
    folders = [folder for root in tree.image_roots for folder in root.iterdir()]
    return {folder.name: {int(path.stem) for path in folder.iterdir()} for folder in folders}


def test_the_tree_has_the_real_layout_and_nothing_else(tree: SyntheticTree) -> None:
    assert sorted(path.name for path in tree.root.iterdir()) == [
        "README.txt",
        "annotations",
        "cropped_aligned",
        "cropped_aligned_new_50_vids",
        "oracle",
        "synthetic.json",
    ]
    assert sorted(path.name for path in tree.annotations.iterdir()) == [
        "AU_Detection_Challenge",
        "EXPR_Recognition_Challenge",
        "VA_Estimation_Challenge",
    ]
    assert all(any(root.iterdir()) for root in tree.image_roots)
    for root in tree.image_roots:
        for folder in root.iterdir():
            names = {path.name for path in folder.iterdir()}
            assert names == {crop_name(int(Path(name).stem)) for name in names}


def test_it_says_that_it_is_synthetic(tree: SyntheticTree) -> None:
    assert "not Aff-Wild2" in (tree.root / "README.txt").read_text()
    note = json.loads((tree.root / "synthetic.json").read_text())
    assert note["synthetic"] is True
    assert {"videos": VIDEOS, "frames": FRAMES, "seed": SEED}.items() <= note["parameters"].items()


def test_every_crop_is_a_colour_jpeg_of_112_pixels(tree: SyntheticTree) -> None:
    paths = [path for root in tree.image_roots for path in root.rglob("*.jpg")]
    assert len(paths) == tree.counts["crops"]
    for path in paths:
        with Image.open(path) as image:
            image.load()
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (112, 112))
            assert np.asarray(image).std() > 10


def test_annotations_parse_and_agree_with_the_counts(tree: SyntheticTree) -> None:
    found = crops(tree)
    for task in Task:
        counted: Counter[str] = Counter()
        for split in Split:
            labels = load_annotations(tree.annotations, task, split)
            assert tree.counts[f"{task}_{split}_videos"] == len(labels) > 0
            for video, one in labels.items():
                missing = [i for i in range(len(one.valid)) if i + 1 not in found[video]]
                whole = (one.values == SPECS[task].invalid).all(axis=1)
                counted["invalid_lines"] += int((~one.valid).sum())
                counted["partly_invalid_lines"] += int((~one.valid & ~whole).sum())
                counted["valid_without_crop"] += int(one.valid[missing].sum())
        for name in ("invalid_lines", "partly_invalid_lines", "valid_without_crop"):
            assert counted[name] == tree.counts.get(f"{task}_{name}", 0), (task, name)
    assert tree.counts["va_partly_invalid_lines"] > 0
    assert tree.counts["au_partly_invalid_lines"] > 0
    assert tree.counts["expr_invalid_lines"] > 0


def test_all_quirks_are_there(tree: SyntheticTree) -> None:
    found = crops(tree)
    files = find_annotations(tree.annotations)
    videos = set(found)
    assert any(f"{name[:-5]}_right" in videos for name in videos if name.endswith("_left"))
    assert any(source_of(name) in videos for name in videos if name.endswith("_right"))
    tasks = {video: {f.task for f in files if f.video == video} for video in videos}
    assert len({frozenset(one) for one in tasks.values()}) >= 4
    splits = {video: {f.split for f in files if f.video == video} for video in videos}
    assert any(len(one) == 2 for one in splits.values())
    gaps = Counter()
    for frames in found.values():
        inside = set(range(min(frames), max(frames) + 1))
        gaps += Counter(start=min(frames) > 1, middle=inside != frames)
    assert gaps["start"] == tree.counts["missing_at_start"] > 0
    assert gaps["middle"] == tree.counts["missing_in_middle"] > 0
    assert tree.counts["missing_at_end"] > 0
    assert 0 < tree.counts["one_line_more"] < VIDEOS


def test_two_subjects_of_a_source_lie_on_the_same_side(tree: SyntheticTree) -> None:
    sides: dict[tuple[Task, str], set[Split]] = {}
    for file in find_annotations(tree.annotations):
        sides.setdefault((file.task, source_of(file.video)), set()).add(file.split)
    assert all(len(side) == 1 for side in sides.values())


def test_the_oracle_covers_every_line_of_validation(tree: SyntheticTree) -> None:
    for task in Task:
        labels = load_annotations(tree.annotations, task, Split.VALIDATION)
        predictions = read_predictions(tree.oracle[task], task)
        assert predictions.keys() == labels.keys()
        for video, prediction in predictions.items():
            assert prediction.frames.tolist() == list(range(1, len(labels[video].valid) + 1))
            assert prediction.values.shape == (len(prediction.frames), SPECS[task].outputs)


def test_the_oracle_beats_a_constant(tree: SyntheticTree) -> None:
    def pooled(task: Task) -> tuple[np.ndarray, np.ndarray]:
        labels = load_annotations(tree.annotations, task, Split.VALIDATION)
        best = read_predictions(tree.oracle[task], task)
        values = np.concatenate([labels[video].values[labels[video].valid] for video in best])
        return np.concatenate([best[v].values[labels[v].valid] for v in best]), values

    guess, truth = pooled(Task.VA)
    assert np.corrcoef(guess[:, 0], truth[:, 0])[0, 1] > 0.8
    guess, truth = pooled(Task.EXPR)
    commonest = np.bincount(truth[:, 0].astype(int)).max() / len(truth)
    assert (guess.argmax(axis=1) == truth[:, 0]).mean() > commonest + 0.2
    guess, truth = pooled(Task.AU)
    rates = truth.mean(axis=0)
    assert ((guess >= 0.5) == truth).mean() > np.maximum(rates, 1 - rates).mean() + 0.03


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    seeds = {"a": 5, "b": 5, "c": 6}
    for name, seed in seeds.items():
        write_synthetic(tmp_path / name, 6, 16, seed)
    first, again, other = (hashes(tmp_path / name) for name in seeds)
    assert first == again
    assert {name: value for name, value in other.items() if first.get(name) == value}.keys() <= {
        "README.txt"
    }


def test_an_interrupted_tree_is_continued_to_the_same_bytes(tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    def kill(done: int, total: int) -> None:
        if done > total / 2:
            raise KilledError

    root = tmp_path / "killed"
    with pytest.raises(KilledError):
        write_synthetic(root, 6, 16, 5, progress=kill)
    assert not (root / "synthetic.json").exists()
    kept = next((root / "cropped_aligned").iterdir()) / "00009.jpg"
    before = kept.stat().st_mtime_ns
    torn = root / "cropped_aligned_new_50_vids" / ".video10_1.unfinished" / "00001.jpg"
    if not torn.parent.with_name("video10_1").exists():
        torn.parent.mkdir(parents=True)
        torn.write_bytes(b"half a crop")
    write_synthetic(root, 6, 16, 5)
    assert kept.stat().st_mtime_ns == before
    write_synthetic(tmp_path / "whole", 6, 16, 5)
    assert hashes(root) == hashes(tmp_path / "whole")


def test_a_finished_tree_is_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    write_synthetic(root, 6, 16, 0)
    first = hashes(root)
    times = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    calls: list[tuple[int, int]] = []
    write_synthetic(root, 6, 16, 0, progress=lambda *call: calls.append(call))
    assert hashes(root) == first
    assert not calls
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == times


def test_progress_counts_up_to_the_total(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    write_synthetic(tmp_path / "t", 6, 16, 0, progress=lambda *call: calls.append(call))
    counts = SyntheticTree(tmp_path / "t").counts
    assert len(calls) == 6
    assert calls == sorted(calls)
    assert calls[-1] == (counts["frames"], counts["frames"])


def test_other_parameters_are_refused_and_named(tree: SyntheticTree) -> None:
    before = hashes(tree.root)
    with pytest.raises(ConflictError, match=r"seed 3 \(asked: 4\)"):
        write_synthetic(tree.root, VIDEOS, FRAMES, 4)
    assert hashes(tree.root) == before


def test_a_begun_tree_with_other_parameters_is_refused(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_synthetic(tmp_path / "tree", 6, 16, 0, progress=stop)
    with pytest.raises(ConflictError, match="frames 16"):
        write_synthetic(tmp_path / "tree", 6, 17, 0)


@pytest.mark.parametrize("name", ["thesis.txt", "cropped_aligned/video1/00001.jpg"])
def test_a_folder_with_something_else_is_never_touched(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConflictError, match="not a synthetic tree"):
        write_synthetic(tmp_path, 6, 16, 0)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]


@pytest.mark.parametrize("text", ["[]", "not json", '{"synthetic": false, "parameters": {}}'])
def test_a_marker_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "synthetic.json").write_text(text)
    with pytest.raises(ConflictError):
        write_synthetic(tmp_path, 6, 16, 0)
    assert (tmp_path / "synthetic.json").read_text() == text


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConflictError):
        write_synthetic(tmp_path / "file", 6, 16, 0)


@pytest.mark.parametrize(("videos", "frames", "seed"), [(5, 16, 0), (6, 15, 0), (6, 16, -1)])
def test_parameters_out_of_range_are_refused(
    tmp_path: Path, videos: int, frames: int, seed: int
) -> None:
    with pytest.raises(SettingsError):
        write_synthetic(tmp_path / "tree", videos, frames, seed)
    assert not (tmp_path / "tree").exists()
