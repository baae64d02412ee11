"""One trial of a sweep in an actor that is used again for the next: one step is one epoch."""

from __future__ import annotations

import contextlib
import platform
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import tune

from raffect.config import TemporalConfig
from raffect.errors import StoreError
from raffect.settings import build, override
from raffect.store import FileEntry, Store, sweep_folder
from raffect.store.layout import CHECKPOINT, MODEL_FILES, trial_folder
from raffect.store.retry import patiently
from raffect.sweep.attributes import ACCUMULATION, DEVICES, FILES, MARGINS
from raffect.sweep.failures import OUT_OF_MEMORY, kind_of, reason_of
from raffect.sweep.settings import Limits
from raffect.temporal.model import TemporalModel, count_parameters
from raffect.temporal.prediction import measure_latency
from raffect.temporal.training import EpochResult, ResidentData, Trainer
from raffect.training.checkpoints import CheckpointFolder
from raffect.training.device import choose_device, free_memory


@dataclass(frozen=True)
class TrialHome:
    """Where the trials of a sweep leave what they make, and when.

    Attributes:
        store: The store.
        sweep: The sweep.
        rungs: Epochs after which the study may prune: the model is written before, so that a
            trial that is told PRUNED has one.
        checkpoint_seconds: Least time between two checkpoints.
        limits: Constraints on the trials' models.
        devices: Devices that a trial takes, to be recorded.
    """

    store: Store
    sweep: str
    rungs: tuple[int, ...]
    checkpoint_seconds: float
    limits: Limits = field(default_factory=Limits)
    devices: float = 1.0

    def folder(self, number: int) -> str:
        """The trial's folder."""
        return trial_folder(self.sweep, number)

    def checkpoints(self, number: int) -> CheckpointFolder:
        """The trial's checkpoints."""
        return CheckpointFolder(self.store, f"{self.folder(number)}/{CHECKPOINT}")

    def write_model(self, number: int, trainer: Trainer) -> list[dict[str, Any]]:
        """Write the trial's model; the metrics, which say what it is, last.

        Returns:
            Its files, for the sweep's manifest.
        """
        entries = []
        below = sweep_folder(self.sweep)
        with tempfile.TemporaryDirectory(prefix="raffect-") as local:
            trainer.write_model(Path(local))
            for name in MODEL_FILES:
                data = (Path(local) / name).read_bytes()
                key = f"{self.folder(number)}/{name}"
                self.store.write_bytes(key, data)
                entries.append(FileEntry.of(key.removeprefix(f"{below}/"), data).canonical())
        return entries


class SweepTrial(tune.Trainable):
    """Trains a trial's model epoch by epoch.

    Model and checkpoints go to the store from here. Tune's own checkpoints are pickles, and only
    the driver that made them finds them again.
    """

    def setup(  # type: ignore[override]  # tune.with_parameters passes the last two
        self, config: dict[str, Any], data: Sequence[Any], home: TrialHome
    ) -> None:
        """Take the first trial.

        Args:
            config: Number, settings and slot of the trial.
            data: A reference to the TaskData, which all processes of a node share.
            home: Where trials leave what they make.
        """
        self._slot = int(config["slot"])
        self._data = data[0]
        self._home = home
        self._resident: dict[str, ResidentData] = {}
        self._trainer: Trainer | None = None
        self._take(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial; the one before has been told how it ended."""
        self.cleanup()
        with contextlib.suppress(StoreError):
            self._home.checkpoints(self._number).clear()
        self._take(new_config)
        return True

    def cleanup(self) -> None:
        """Let go of the model; a trial that is stopped in mid-training keeps its checkpoint."""
        self._trainer = None

    def _take(self, config: Mapping[str, Any]) -> None:
        self._number = int(config["number"])
        self._config = build(TemporalConfig, config["settings"])
        self._note: str | None = None
        if config.get(ACCUMULATION):
            self._halve()
        self._trainer = None
        self._trained = False
        self._saved_at = time.monotonic()
        self._latency: float | None = None
        self._files: list[dict[str, Any]] = []

    def __repr__(self) -> str:
        """How Ray's dashboard calls the actor.

        Ray asks once, when the actor has begun with its first trial; many more trials use it
        later.
        """
        return f"{self._config.task.value} sweep {self._home.sweep}, slot {self._slot}"

    def step(self) -> dict[str, Any]:
        """One epoch; a failure of the trial's own is a result, so that the actor lives on."""
        try:
            return patiently(self._advance)
        except StoreError:
            # Not this trial's fault: the engine gives it another try.
            raise
        except Exception as error:
            reason = reason_of(error)
            if kind_of(reason) != OUT_OF_MEMORY or self._config.optimiser.accumulation > 1:
                return self._failed(reason)
        # Outside of the handler: the error holds the frames, and they what filled the memory.
        self.cleanup()
        self._halve()
        free_memory()
        return self.step()

    def _halve(self) -> None:
        """Go on from the last checkpoint with half a batch at a time; its gradient is the same."""
        self._config = override(self._config, {"optimiser.accumulation": 2})
        self._trained = False
        self._note = "half a batch at a time after it ran out of memory"

    def _advance(self) -> dict[str, Any]:
        if self._trainer is None:
            self._trainer = self._begin()
            if not self._trainer.epoch and (why := self._refuse(self._trainer.model)):
                return refusal(why, self._facts(self._trainer))
            if self._trainer.epoch:
                return self._resume(self._trainer)
        trainer = self._trainer
        # Not again when only the store failed: the study has to judge each rung.
        if not trainer.done and not self._trained:
            trainer.run_epoch()
            self._trained = True
        done = trainer.done
        if done:
            self._latency = self._latency or measure_latency(trainer.model, trainer.config)
        if done or trainer.epoch in self._home.rungs:
            self._files = self._home.write_model(self._number, trainer)
        if not done and time.monotonic() - self._saved_at >= self._home.checkpoint_seconds:
            self._home.checkpoints(self._number).save(trainer)
            self._saved_at = time.monotonic()
        self._trained = False
        return self._result(trainer, done)

    def _begin(self) -> Trainer:
        device = choose_device(self._config.run.device)
        resident = self._resident.get(device.type)
        if resident is None:
            resident = self._resident[device.type] = ResidentData(ray.get(self._data), device)
        trainer = Trainer(self._config, resident)
        self._home.checkpoints(self._number).restore_latest(trainer)
        return trainer

    def _resume(self, trainer: Trainer) -> dict[str, Any]:
        """Tell of the checkpoint's last epoch before the next one.

        Who asked for it may have died before it was told, and the study has to judge each rung.
        """
        if trainer.epoch in self._home.rungs:
            self._files = self._home.write_model(self._number, trainer)
        return self._result(trainer, trainer.done)

    def _refuse(self, model: TemporalModel) -> str:
        """Which limit a model is beyond, in words; it is then not trained."""
        limits = self._home.limits
        if limits.latency_ms is not None:
            self._latency = measure_latency(model, self._config)
        return limits.describe(count_parameters(self._config, model.feature_dim), self._latency)

    def _facts(self, trainer: Trainer) -> dict[str, Any]:
        """Attributes of a trial that has begun."""
        facts = describe(trainer, self._latency, self._files)
        facts[MARGINS] = self._home.limits.margins(trainer.parameter_count, self._latency)
        facts[DEVICES] = self._home.devices
        return {**facts, **self._saved()}

    def _saved(self) -> dict[str, Any]:
        """What was done to save the trial from its memory."""
        if self._note is None:
            return {}
        return {ACCUMULATION: self._config.optimiser.accumulation, "note": self._note}

    def _result(self, trainer: Trainer, done: bool) -> dict[str, Any]:
        """What ledger.py reads; Tune flattens the dictionaries of a result, but no lists."""
        assert trainer.best is not None
        return {
            "epoch": trainer.epoch,
            "score": trainer.best.score,
            "history": [asdict(epoch) for epoch in trainer.history],
            "facts": list(self._facts(trainer).items()),
            "done": done,
        }

    def _failed(self, reason: str) -> dict[str, Any]:
        trainer, self._trainer = self._trainer, None
        history: list[EpochResult] = trainer.history if trainer is not None else []
        return failure(reason, history, self._saved())


def failure(
    reason: str, history: Sequence[EpochResult], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """The result of a trial that can't go on."""
    return {
        "epoch": len(history),
        "score": max((epoch.score for epoch in history), default=None),
        "history": [asdict(epoch) for epoch in history],
        "facts": [("host", platform.node()), *facts.items()],
        "failure": reason,
        "done": True,
    }


def refusal(why: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The result of a trial whose model is beyond a limit."""
    return {
        "epoch": 0,
        "score": None,
        "history": [],
        "facts": list(facts.items()),
        "refusal": why,
        "done": True,
    }


def describe(
    trainer: Trainer, latency: float | None, files: list[dict[str, Any]]
) -> dict[str, Any]:
    """Attributes of a trial that has begun."""
    facts: dict[str, Any] = {
        FILES: files,
        "host": platform.node(),
        "device": str(next(trainer.model.parameters()).device),
        "parameters": trainer.parameter_count,
    }
    return facts if latency is None else {**facts, "latency_ms": round(latency, 3)}
