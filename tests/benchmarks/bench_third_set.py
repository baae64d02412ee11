"""The expected score of a small sweep, held against videos that nobody looked at.

    python -m tests.benchmarks.bench_third_set [--task TASK ...] [--trials N] [--videos N]

The demo's own stages up to the sweeps, then as many synthetic videos again from another seed: all
that are annotated, of either split, are the third set. The winner's encoder and model predict each
from its crops. Printed are its plain score with its interval, the expected one, and its score on
the third set: all of it, and the mean over random sets of as many videos as there are in
validation, which is what is expected (a score pooled over more videos has more of their spread in
it). The recipe, which nobody chose, is scored on the third set, too: what it loses there is the
luck of the validation set, in its videos, and no choice's.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from raffect.affwild2.annotations import load_annotations
from raffect.affwild2.predictions import VideoPredictions
from raffect.affwild2.sums import score_sums, sums_of_videos
from raffect.affwild2.tasks import Split, Task
from raffect.demo import FRAMES, SEED, Demo
from raffect.predict.files import predict_folder
from raffect.store import Store
from raffect.store.raw import RawFolder
from raffect.sweep.leaderboard import load_sweep
from raffect.sweep.records import TrialRow, model_files
from raffect.synthetic.tree import write_synthetic
from raffect.temporal.ensemble import load_ensemble
from raffect.text import score_text

_SETS = 2000


def third_scores(
    store: Store, task: Task, row: TrialRow, tree: Path, videos: int
) -> tuple[float, float, int]:
    """A trial on a tree: score of all videos, mean over sets of so many, their number."""
    ensemble = load_ensemble(store, model_files(store, row))
    labels = {}
    for split in (Split.TRAIN, Split.VALIDATION):
        labels.update(load_annotations(tree / "annotations", task, split))
    found: list[np.ndarray] = []
    true: list[np.ndarray] = []
    for video, of in labels.items():
        folders = [path / video for path in tree.glob("cropped_aligned*")]
        folder = next((path for path in folders if path.is_dir()), None)
        if folder is None or not of.valid.any():
            continue
        predicted: VideoPredictions = predict_folder(
            store, ensemble, RawFolder.of(folder, "--frames"), []
        )
        frames = np.flatnonzero(of.valid) + 1
        values, known = predicted.at(frames)
        # Frames behind the last crop have no prediction there: the video's last one is held.
        values[~known] = predicted.values[-1]
        found.append(values)
        true.append(of.values[of.valid])
    sums = sums_of_videos(task, found, true)
    generator = np.random.default_rng(0)
    times = np.zeros((_SETS, len(sums)), dtype=int)
    for row in times:
        row[generator.choice(len(sums), min(videos, len(sums)), replace=False)] = 1
    whole = score_sums(task, np.ones((1, len(sums)), dtype=int), sums)[0]
    return float(whole), float(score_sums(task, times, sums).mean()), len(sums)


def main() -> None:
    """Print a line for each task."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", nargs="+", default=[task.value for task in Task])
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--videos", type=int, default=24)
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    folder = asked.keep or Path(tempfile.mkdtemp())
    demo = Demo(folder, asked.trials, asked.videos)
    for stage in demo.stages():
        if stage.key == "report" or (
            stage.key.startswith("tune") and stage.key[5:] not in asked.task
        ):
            continue
        began = time.perf_counter()
        note = stage.run(lambda done, total: None, lambda text: None)
        print(f"{stage.title}: {time.perf_counter() - began:.0f} s  {note or ''}", flush=True)
    tree = folder / "third"
    write_synthetic(tree, asked.videos, FRAMES, SEED + 1000)
    for task in map(Task, asked.task):
        view = load_sweep(demo.store, task.value)
        rows = {"best": view.best, "recipe": view.recipe}
        print(f"{task.value}: expected of the best {score_text(view.evidence.expected)}")
        for name, row in rows.items():
            assert row is not None
            known = view.evidence.trials[row.number]
            low, high = known.interval
            videos = view.evidence.videos
            whole, alike, count = third_scores(demo.store, task, row, tree, videos)
            print(
                f"  {name:6} (trial {row.number}) validation {score_text(row.score)} "
                f"({low:.4f} to {high:.4f}, {videos} videos); third set, as many videos "
                f"{alike:.4f}, all {count} {whole:.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
