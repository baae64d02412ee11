"""The whole pipeline on synthetic data: the stages of `raffect demo`, each resumable."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import yaml

from raffect.affwild2.tasks import Split, Task
from raffect.config import ExtractConfig, FinetuneConfig, TemporalConfig, recipe
from raffect.context import Context, OnNote, Progress
from raffect.settings import override
from raffect.store import Store
from raffect.store.layout import REPORT

if TYPE_CHECKING:
    from raffect.sweep.leaderboard import SweepView
    from raffect.sweep.together import Together

FRAMES = 300
SEED = 0
ENCODER = "clip"
WORKERS = 2
NEXT_TRIALS = 4
SHARD_BYTES = 4 * 2**20
SCALED = (
    "Synthetic faces, not Aff-Wild2, and the recipe's sizes scaled down to what two cores learn"
    " in some minutes: these scores say that the line works, not how good a model would be."
)

# The recipe's sizes are meant for 2.9 million crops and GPUs. These keep its architecture (TCN,
# Transformer, MLP; CLIP's tower and a head) at a size that two cores train in some minutes.
SMALL_FINETUNE: Mapping[str, object] = {
    "encoder.model": "raffect-tiny",
    "encoder.pretrained": None,
    "epochs": 4,
    "frame_stride": 3,
    "batch_size": 64,
    "lr": 2e-3,
    "layer_decay": 1.0,
    "ema_decay": 0.98,
}
SMALL_TEMPORAL: Mapping[str, object] = {
    "segments.window": 96,
    "segments.stride": 32,
    "model.tcn.channels": [64, 64, 32],
    "model.tcn.kernel": 3,
    "model.width": 64,
    "model.transformer.layers": 1,
    "model.transformer.heads": 2,
    "model.transformer.feedforward": 128,
    "model.head_hidden": 64,
    "model.tcn.dropout": 0.2,
    "model.transformer.dropout": 0.1,
    "model.head_dropout": 0.2,
    # Ten times that of the recipe, whose model is ten times as wide.
    "optimiser.lr": 3e-4,
    "optimiser.batch_size": 8,
}
SETTINGS = """\
# The sizes of `raffect demo`, the same for each task: two cores train such a model in seconds.
# Give this file with --config; --set goes on top.
"""
# Action units, of which some are rare, take longest.
SMALL_EPOCHS = {Task.VA: 6, Task.EXPR: 12, Task.AU: 16}


class TaskScores(TypedDict):
    """Scores of one task: the trivial baseline, the best trial, the best possible predictions.

    What the best trial is expected to score on new videos is None where it can't be said.
    """

    baseline: float
    best: float | None
    expected: float | None
    reachable: float


class Summary(TypedDict):
    """What `raffect demo --json` prints: seconds by stage, scores by task, the report's file."""

    seconds: dict[str, float]
    scores: dict[str, TaskScores]
    report: str


@dataclass(frozen=True)
class DemoStage:
    """A stage: its key in the timings, its title, and its work, which may return a note."""

    key: str
    title: str
    run: Callable[[Progress, OnNote], str | None]


class Demo:
    """The demo in a folder: raw tree, store, report and settings of its own.

    `trials` counts for each task, `videos` for the synthetic tree.
    """

    def __init__(self, folder: Path, trials: int, videos: int) -> None:
        self.folder = folder
        self.videos = videos
        self.trials = trials
        self.raw = folder / "raw"
        self.store = Store(str(folder / "store"))
        self.report = folder / REPORT
        self.settings = folder / "settings.yaml"
        self.seconds: dict[str, float] = {}

    def stages(self) -> list[DemoStage]:
        """All stages, in order."""
        return [
            DemoStage("synth", "Drawing synthetic faces", self._synth),
            DemoStage("ray", "Starting Ray on this machine", self._connect),
            DemoStage("prepare", "Preparing crops and labels (Ray Data)", self._prepare),
            DemoStage("finetune", "Fine-tuning a small CLIP (Ray Train)", self._finetune),
            DemoStage("extract", "Extracting features (Ray Data)", self._extract),
            *(
                DemoStage(
                    f"tune {task.value}",
                    f"Sweeping {task.value.upper()} (Ray Tune, Optuna)",
                    partial(self._tune, task),
                )
                for task in Task
            ),
            DemoStage("report", "Writing the report", self._report),
        ]

    def _synth(self, tick: Progress, tell: OnNote) -> str:
        from raffect.synthetic.tree import write_synthetic

        write_synthetic(self.raw, self.videos, FRAMES, SEED, progress=tick)
        return f"{self.videos} videos"

    def _connect(self, tick: Progress, tell: OnNote) -> None:
        from raffect.engine import connect

        connect(None)

    def _prepare(self, tick: Progress, tell: OnNote) -> str:
        from raffect.affwild2.prepare import prepare

        images = sorted(path for path in self.raw.glob("cropped_aligned*") if path.is_dir())
        context = Context(progress=tick)
        manifest = prepare(self.store, images, self.raw / "annotations", SHARD_BYTES, context)
        return f"{manifest.counts['crops']['readable']:,} crops"

    def _finetune(self, tick: Progress, tell: OnNote) -> None:
        from raffect.clip.finetune import finetune
        from raffect.clip.training import FinetuneEpoch

        config = override(FinetuneConfig(), SMALL_FINETUNE)

        def on_epoch(result: FinetuneEpoch) -> None:
            tick(result["epoch"], config.epochs)
            tell(f"macro F1 {result['macro_f1']:.3f} on validation crops")

        finetune(self.store, ENCODER, config, workers=WORKERS, on_epoch=on_epoch)

    def _extract(self, tick: Progress, tell: OnNote) -> str:
        from raffect.clip.extract import extract

        manifest = extract(
            self.store, ENCODER, ENCODER, ExtractConfig(), context=Context(progress=tick)
        )
        return f"{manifest.counts['rows']:,} x {manifest.counts['dim']}"

    def _tune(self, task: Task, tick: Progress, tell: OnNote) -> str:
        from raffect.sweep.progress import SweepProgress
        from raffect.sweep.settings import SweepSettings
        from raffect.sweep.tune import tune

        small = {**SMALL_TEMPORAL, "optimiser.epochs": SMALL_EPOCHS[task]}
        base: TemporalConfig = override(recipe(task), small)
        settings = SweepSettings(trials=self.trials, max_epochs=base.optimiser.epochs)

        def on_update(progress: SweepProgress) -> None:
            tick(progress.finished, progress.target)
            tell(progress.describe())

        self._together.ahead = task is not list(Task)[-1]
        view = tune(
            self.store, task, ENCODER, task.value, settings, base, on_update,
            together=self._together,
        )  # fmt: skip
        best = "none" if view.best is None else f"{view.best.score:.3f}"
        return f"best {best} of {len(view.rows)} trials"

    @cached_property
    def _together(self) -> Together:
        from raffect.sweep.together import Together

        return Together.of(self.store, list(Task), None, None)

    def _report(self, tick: Progress, tell: OnNote) -> None:
        from raffect.report.page import write_overview

        text = SETTINGS + yaml.safe_dump(dict(SMALL_TEMPORAL), sort_keys=False)
        self.settings.write_text(text, encoding="utf-8")
        reachable = {task: self._reachable(task) for task in Task}
        names = [task.value for task in Task]
        write_overview(self.store, names, self.report, reachable, notes=[SCALED])

    def views(self) -> list[SweepView]:
        """The present state of the three sweeps."""
        from raffect.sweep.leaderboard import load_sweep

        return [load_sweep(self.store, task.value) for task in Task]

    def summary(self) -> Summary:
        """Seconds of the stages, and the scores of each task."""
        scores: dict[str, TaskScores] = {
            view.task.value: {
                "baseline": view.baseline["score"],
                "best": view.best.score if view.best else None,
                "expected": view.evidence.expected,
                "reachable": self._reachable(view.task),
            }
            for view in self.views()
        }
        return {"seconds": self.seconds, "scores": scores, "report": str(self.report.resolve())}

    def _reachable(self, task: Task) -> float:
        """The evaluator's score of the predictions made from the latents."""
        from raffect.affwild2.annotations import load_annotations
        from raffect.affwild2.evaluation import evaluate
        from raffect.affwild2.predictions import read_predictions

        labels = load_annotations(self.raw / "annotations", task, Split.VALIDATION)
        oracle = read_predictions(self.raw / "oracle" / f"{task.value}.csv", task)
        return evaluate(task, oracle, labels).score

    def next_commands(self) -> list[str]:
        """What to try next."""
        store = f"--store {shlex.quote(str(self.folder / 'store'))}"
        annotations = shlex.quote(str(self.raw / "annotations"))
        return [
            f"raffect predict sweeps/va --split validation --out va.csv {store}",
            f"raffect evaluate va va.csv --annotations {annotations}",
            f"raffect tune va --name va-next --trials {NEXT_TRIALS}"
            f" --max-epochs {SMALL_EPOCHS[Task.VA]}"
            f" --config {shlex.quote(str(self.settings))} {store}",
            f"raffect demo --keep {shlex.quote(str(self.folder))} --videos {self.videos}"
            f" --trials {2 * self.trials}",
        ]
