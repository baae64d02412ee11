"""One trial of a sweep in an actor that is used again for the next: one step is one epoch.

PyTorch is imported where a trial runs; the command that only starts them needs none.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune

from raffect.config import TemporalConfig
from raffect.errors import ConflictError, StoreError
from raffect.settings import build, override
from raffect.store import FileEntry, Store, sweep_folder
from raffect.store.layout import CHECKPOINT, trial_folder
from raffect.sweep.attributes import ACCUMULATION
from raffect.sweep.failures import OUT_OF_MEMORY, kind_of, reason_of
from raffect.sweep.records import WORN, Maker, TrialFacts, TrialReport
from raffect.sweep.settings import Limits
from raffect.temporal.epochs import EpochResult
from raffect.training.checkpoints import CheckpointFolder

if TYPE_CHECKING:
    from raffect.temporal.resident import ResidentData
    from raffect.temporal.training import Trainer


@dataclass(frozen=True)
class TrialHome:
    """Where the trials of a sweep leave what they make, and when.

    Attributes:
        rungs: Epochs after which the study may prune: the model is written before, so that a
            trial that is told PRUNED has one.
        checkpoint_seconds: Least time between two checkpoints.
        devices: Devices that a trial takes, to be recorded.
        code: Digest that the code of raffect must have where trials run; None: any.
        most_trials: Trials that a process runs before another takes its place.
        most_growth: Bytes that it may grow by after its first trial, for the same.
    """

    store: Store
    sweep: str
    rungs: tuple[int, ...]
    checkpoint_seconds: float
    limits: Limits = field(default_factory=Limits)
    devices: float = 1.0
    code: str | None = None
    most_trials: int = 500
    most_growth: int = 2 * 2**30

    def check_code(self) -> None:
        """Refuse to compute with other code than that which is asked for, e.g. on another node."""
        found = Maker.here(1)
        if self.code is not None and self.code != found.code:
            raise ConflictError(
                f"On {platform.node()} is {found.describe()}.",
                f"code {self.code[:12]}, that of the driver (--require-same-code)",
                "Install the same raffect on all nodes; `raffect doctor` finds those that differ.",
            )

    def folder(self, number: int) -> str:
        """The trial's folder."""
        return trial_folder(self.sweep, number)

    def checkpoints(self, number: int, is_new: bool = False) -> CheckpointFolder:
        """The trial's checkpoints; a new one has none."""
        return CheckpointFolder(self.store, f"{self.folder(number)}/{CHECKPOINT}", is_new)

    def write_model(
        self, number: int, trainer: Trainer, written: Sequence[FileEntry] = ()
    ) -> tuple[FileEntry, ...]:
        """Write the trial's model, the metrics last; its files are for the sweep's manifest.

        Files that were `written` before are not written again.
        """
        entries = []
        below = sweep_folder(self.sweep)
        for name, data in trainer.model_files().items():
            key = f"{self.folder(number)}/{name}"
            entry = FileEntry.of(key.removeprefix(f"{below}/"), data)
            if entry not in written:
                self.store.write_bytes(key, data)
            entries.append(entry)
        return tuple(entries)


def resident_bytes() -> int:
    """Memory that this process holds, what it shares with others included."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class SweepTrial(tune.Trainable):
    """Trains a trial's model epoch by epoch.

    Model and checkpoints go to the store from here. Tune's own checkpoints are pickles, and only
    the driver that made them finds them again.
    """

    def setup(  # type: ignore[override]  # tune.with_parameters passes the last two
        self, config: Mapping[str, Any], data: Sequence[Any], home: TrialHome
    ) -> None:
        """Take the first trial.

        Args:
            config: Number, settings and slot of the trial; which of the data, if not the first.
            data: References to TaskData, which all processes of a node share.
        """
        self._slot = int(config["slot"])
        self._sets = data
        self._data = data[0]
        self._home = home
        self._resident: dict[tuple[str, str], ResidentData] = {}
        self._trainer: Trainer | None = None
        self._taken = 0
        self._size = math.inf
        self._take(config)

    def reset_config(self, new_config: Mapping[str, Any]) -> bool:
        """Take the next trial; the study has settled the one before."""
        self.cleanup()
        with contextlib.suppress(StoreError):
            self._checkpoints.clear()
        self._size = min(self._size, resident_bytes())
        self._take(new_config)
        return True

    def cleanup(self) -> None:
        """Let go of the model; a trial that is stopped in mid-training keeps its checkpoint."""
        self._trainer = None

    def _take(self, config: Mapping[str, Any]) -> None:
        self._taken += 1
        self._number = int(config["number"])
        self._checkpoints = self._home.checkpoints(self._number, config.get("is_new", False))
        self._config = build(TemporalConfig, config["settings"])
        data = self._sets[config.get("data", 0)]
        if data is not self._data:
            self._data = data
            self._resident.clear()
        self._note: str | None = None
        if config.get(ACCUMULATION) and self._can_halve:
            self._halve()
        self._trainer = None
        self._trained = False
        self._saved_at = time.monotonic()
        self._latency: float | None = None
        self._files: tuple[FileEntry, ...] = ()

    def __repr__(self) -> str:
        """How Ray's dashboard calls the actor.

        Ray asks once, when the actor has begun with its first trial; many more trials use it
        later.
        """
        return f"{self._config.task.value} sweep {self._home.sweep}, slot {self._slot}"

    def step(self) -> dict[str, object]:
        """One epoch; a failure of the trial's own is a result, so that the actor lives on."""
        return {**self._report().to_tune(), WORN: self._is_worn()}

    def _is_worn(self) -> bool:
        """Whether the next trial is to have another process, as this one may leak memory."""
        grown = resident_bytes() - self._size
        return self._taken >= self._home.most_trials or grown > self._home.most_growth

    def _report(self) -> TrialReport:
        try:
            self._home.check_code()
            return self._advance()
        except StoreError:
            # Not this trial's fault: the engine gives it another try.
            raise
        except Exception as error:
            reason = reason_of(error)
            if kind_of(reason) != OUT_OF_MEMORY or not self._can_halve:
                facts = TrialFacts(
                    host=platform.node(), accumulation=self._accumulation, note=self._note
                )
                history = tuple(self._epochs())
                self._trainer = None
                return TrialReport(history, facts, failure=reason)
        # The traceback keeps GPU tensors alive: free them outside of the except block.
        from raffect.training.device import free_memory

        self.cleanup()
        self._halve()
        free_memory()
        return self._report()

    @property
    def _can_halve(self) -> bool:
        """Whether batches are whole, and batch norm does not need them so."""
        return self._config.optimiser.accumulation == 1 and self._config.model.head == "relu"

    def _halve(self) -> None:
        """Go on from the last checkpoint with half a batch at a time; its gradient is the same."""
        self._config = override(self._config, {"optimiser.accumulation": 2})
        self._trained = False
        self._note = "half a batch at a time after it ran out of memory"

    def _advance(self) -> TrialReport:
        from raffect.temporal.inference import measure_latency

        if self._trainer is None:
            self._trainer = self._begin()
            if not self._trainer.epoch and (why := self._refuse(self._trainer)):
                return TrialReport(facts=self._facts(self._trainer), refusal=why)
            if self._trainer.epoch:
                # The checkpoint's last epoch before the next one: the driver that asked for it
                # may have died before it got the result, and the study has to judge each rung.
                if self._trainer.epoch in self._home.rungs:
                    self._write_model(self._trainer)
                return self._result(self._trainer)
        trainer = self._trainer
        # Not again when only the store failed: the study has to judge each rung.
        if not trainer.done and not self._trained:
            trainer.run_epoch()
            self._trained = True
        if trainer.done:
            self._latency = self._latency or measure_latency(trainer.model, trainer.config)
        if trainer.done or trainer.epoch in self._home.rungs:
            self._write_model(trainer)
        if not trainer.done and time.monotonic() - self._saved_at >= self._home.checkpoint_seconds:
            self._checkpoints.save(trainer)
            self._saved_at = time.monotonic()
        self._trained = False
        return self._result(trainer)

    def _begin(self) -> Trainer:
        from raffect.temporal.resident import ResidentData
        from raffect.temporal.training import Trainer
        from raffect.training.device import choose_device

        device = choose_device(self._config.run.device)
        place = self._config.run.features
        resident = self._resident.get((device.type, place))
        if resident is None:
            # Trials that share a GPU have one copy of the features, in the node's object store.
            is_shared = self._home.devices < 1
            resident = ResidentData(ray.get(self._data), device, None, place, is_shared)
            self._resident = {(device.type, place): resident}
        trainer = Trainer(self._config, resident)
        self._checkpoints.restore_latest(trainer)
        return trainer

    def _write_model(self, trainer: Trainer) -> None:
        self._files = self._home.write_model(self._number, trainer, self._files)

    def _result(self, trainer: Trainer) -> TrialReport:
        return TrialReport(tuple(trainer.history), self._facts(trainer), trainer.done)

    def _refuse(self, trainer: Trainer) -> str:
        """Which limit a model is beyond, in words; it is then not trained."""
        from raffect.temporal.inference import measure_latency

        limits = self._home.limits
        if limits.latency_ms is not None:
            self._latency = measure_latency(trainer.model, self._config)
        return limits.describe(trainer.parameter_count, self._latency)

    def _facts(self, trainer: Trainer) -> TrialFacts:
        return replace(
            facts_of(trainer, self._latency, self._files),
            devices=self._home.devices,
            accumulation=self._accumulation,
            note=self._note,
            margins=self._home.limits.margins(trainer.parameter_count, self._latency),
        )

    @property
    def _accumulation(self) -> int | None:
        """Parts of a batch, to be recorded where it was halved to save the trial."""
        return None if self._note is None else self._config.optimiser.accumulation

    def _epochs(self) -> Sequence[EpochResult]:
        return self._trainer.history if self._trainer is not None else ()


def facts_of(
    trainer: Trainer, latency_ms: float | None, files: tuple[FileEntry, ...]
) -> TrialFacts:
    """What the process that trains knows of a trial."""
    return TrialFacts(
        host=platform.node(),
        device=str(next(trainer.model.parameters()).device),
        parameters=trainer.parameter_count,
        latency_ms=None if latency_ms is None else round(latency_ms, 3),
        maker=Maker.here(1),
        files=files,
    )
