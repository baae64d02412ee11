"""What users run today: Optuna's own loop, and a DataLoader over windows of per-video .npy files.

One process per slot, all on one study in Optuna's journal file, as its manual advises; each trial
trains in the process. Written as one would who knows both libraries: files are read once per
process, windows are copied out of them by number, workers persist for a trial, the best weights
of a trial are saved. Prints the trials, epochs and times of this process as JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import optuna
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import MaxTrialsCallback
from optuna.trial import TrialState
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from raffect.config import SegmentConfig
from raffect.sweep.space import load_space
from raffect.temporal.segments import segment_starts
from tests.benchmarks import workload
from tests.benchmarks.rivals import loop
from tests.benchmarks.rivals.data import FIELDS, SPLITS

ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
VALIDATION_BATCH = 32


class Windows(Dataset[dict[str, Tensor]]):
    """Overlapping windows of the videos of a folder; short videos are padded with their end."""

    def __init__(self, folder: Path, config: SegmentConfig) -> None:
        self.window = config.window
        self.videos: list[dict[str, np.ndarray]] = []
        self.index: list[tuple[int, int, int]] = []
        offset = 0
        for path in sorted((folder / "x").iterdir()):
            video = {field: np.load(folder / field / path.name) for field in FIELDS}
            length = len(video["x"])
            for start in segment_starts(length, config.window, config.stride):
                self.index.append((len(self.videos), int(start), offset + int(start)))
            self.videos.append(video)
            offset += length

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        video, start, first = self.index[number]
        length = len(self.videos[video]["x"])
        position = np.arange(self.window)
        inside = np.minimum(position, length - start - 1)
        fields = {name: array[start + inside] for name, array in self.videos[video].items()}
        fields["real"] = position < length - start
        fields["frames"] = first + inside
        return {name: torch.from_numpy(array) for name, array in fields.items()}

    def labels(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels and validity of all frames."""
        values = np.concatenate([video["values"] for video in self.videos])
        return values, np.concatenate([video["valid"] for video in self.videos])


class Objective:
    """Trains one trial."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder = folder
        self.workers = workers
        self.base = workload.base()
        self.space = load_space("tests.benchmarks.narrow")
        self.train, self.validation = (
            Windows(folder / "videos" / split, self.base.segments) for split in SPLITS
        )
        self.epochs = 0

    def __call__(self, trial: optuna.Trial) -> float:
        config = self.space.configure(trial, self.base)
        model = loop.make_model(config, self.train.videos[0]["x"].shape[1])
        train = self._loader(self.train, config.optimiser.batch_size, shuffle=True)
        validation = self._loader(self.validation, VALIDATION_BATCH, shuffle=False)
        labels = self.validation.labels()
        epochs: Iterator[float] = loop.train(
            config, model, lambda: train, len(train), lambda: validation, labels
        )
        best = -1.0
        for epoch, score in enumerate(epochs, 1):
            self.epochs += 1
            if score > best:
                best = score
                torch.save(model.state_dict(), self.folder / f"trial-{trial.number}.pt")
            trial.report(best, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return best

    def _loader(self, data: Windows, batch: int, shuffle: bool) -> DataLoader[dict[str, Tensor]]:
        return DataLoader(
            data,
            batch,
            shuffle=shuffle,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--storage", required=True)
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--rung", type=int, default=0, help="0: no pruning")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = (
        optuna.pruners.SuccessiveHalvingPruner(min_resource=chosen.rung, reduction_factor=3)
        if chosen.rung
        else optuna.pruners.NopPruner()
    )
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(chosen.storage)),
        study_name="plain",
        direction="maximize",
        pruner=pruner,
        load_if_exists=True,
    )
    objective = Objective(chosen.folder, chosen.workers)
    began = time.time()
    study.optimize(objective, callbacks=[MaxTrialsCallback(chosen.trials, states=ENDED)])
    trials = len(study.get_trials(deepcopy=False, states=ENDED))
    times = {"began": began, "ended": time.time()}
    print(json.dumps({"trials": trials, "epochs": objective.epochs, **times}))


if __name__ == "__main__":
    main()
