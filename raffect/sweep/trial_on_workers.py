"""One trial of a sweep on several workers: the trial's actor waits, an inner run trains.

Three rules keep the engine from trouble. The actor takes next to no CPU, else actors hold what
the workers of others wait for. The inner run is always left to end by itself, because only then
Ray Train frees its workers' resources. The workers, which run ahead of the study's verdict, never
write a model over the one that it judges.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import ray

from raffect.config import TemporalConfig
from raffect.engine import beside_caller, share_of
from raffect.errors import StoreError
from raffect.store.layout import CHECKPOINT
from raffect.sweep.records import Maker, TrialFacts, TrialReport
from raffect.sweep.settings import Limits
from raffect.sweep.trial import SweepTrial, TrialHome, facts_of
from raffect.temporal.epochs import EpochResult
from raffect.temporal.inference import measure_latency
from raffect.temporal.model import TemporalModel, count_parameters
from raffect.temporal.training import Trainer, is_done
from raffect.training.checkpoints import CheckpointFolder, Saveable
from raffect.training.device import choose_device
from raffect.training.ray_workers import train_on_workers

_POLL_S = 0.1


class Gate:
    """What the study has decided so far, for rank 0; an actor."""

    def __init__(self) -> None:
        self._survived = 0
        self._stopped = False
        self._facts = TrialFacts()
        self._history: list[EpochResult] = []

    def restore(self, history: list[EpochResult]) -> None:
        """Take the epochs of the checkpoint that the run goes on from."""
        self._history = history

    def history(self) -> list[EpochResult]:
        """The epochs of the checkpoint; none when the run began anew."""
        return self._history

    def survive(self, epoch: int) -> None:
        """The trial may go on after this epoch."""
        self._survived = max(self._survived, epoch)

    def stop(self) -> None:
        """The trial has ended."""
        self._stopped = True

    def verdict(self, epoch: int) -> bool | None:
        """Whether the trial goes on after an epoch; None: not decided."""
        if self._stopped:
            return False
        return True if self._survived >= epoch else None

    def describe(self, facts: TrialFacts) -> None:
        """Take what only rank 0 knows of the model."""
        self._facts = facts

    def facts(self) -> TrialFacts:
        """What rank 0 has told."""
        return self._facts


class StopTrialError(Exception):
    """Ends the inner run of a trial that was stopped."""


class TrialCheckpoints(CheckpointFolder):
    """Checkpoints that also leave the trial's model where the study may judge it.

    `gate` is the Gate's actor.
    """

    def __init__(self, home: TrialHome, number: int, gate: Any) -> None:
        super().__init__(home.store, f"{home.folder(number)}/{CHECKPOINT}")
        self._home = home
        self._number = number
        self._gate = gate
        self._saved_at = time.monotonic()
        self._first = 0

    def restore_latest(self, trainer: Saveable) -> bool:
        """Go on from the newest checkpoint, and tell the trial of its epochs."""
        assert isinstance(trainer, Trainer)
        found = super().restore_latest(trainer)
        self._first = trainer.epoch
        ray.get(self._gate.restore.remote(trainer.history))
        return found

    def save(self, trainer: Saveable) -> None:
        """Write the model at rungs and at the end; a checkpoint when it is time."""
        assert isinstance(trainer, Trainer)
        if trainer.done or trainer.epoch in self._home.rungs:
            before = [rung for rung in self._home.rungs if self._first < rung < trainer.epoch]
            if before and not self._goes_on_after(before[-1]):
                return
            files = self._home.write_model(self._number, trainer)
            latency = measure_latency(trainer.model, trainer.config) if trainer.done else None
            ray.get(self._gate.describe.remote(facts_of(trainer, latency, files)))
        elif time.monotonic() - self._saved_at >= self._home.checkpoint_seconds:
            super().save(trainer)
            self._saved_at = time.monotonic()

    def _goes_on_after(self, epoch: int) -> bool:
        while True:
            verdict: bool | None = ray.get(self._gate.verdict.remote(epoch))
            if verdict is not None:
                return verdict
            time.sleep(_POLL_S)


class SweepTrialOnWorkers(SweepTrial):
    """Hands out the inner run's epochs one by one."""

    _thread: threading.Thread | None
    _history: list[EpochResult]
    _results: queue.Queue[EpochResult]
    _error: BaseException | None
    _stopping: bool

    def setup(  # type: ignore[override]  # tune.with_parameters passes the last three
        self, config: Mapping[str, Any], data: Sequence[Any], home: TrialHome, workers: int
    ) -> None:
        """Take the first trial; `workers` train each trial's model."""
        self._workers = workers
        super().setup(config, data, home)

    def _take(self, config: Mapping[str, Any]) -> None:
        super()._take(config)
        # The workers write them, in other processes.
        self._checkpoints = self._home.checkpoints(self._number)
        self._forget_run()
        self._margins: Mapping[str, float] = {}

    def cleanup(self) -> None:
        """Let the inner run end after the epoch that it is at."""
        if self._thread is not None:
            self._stopping = True
            self._gate.stop.remote()
            self._thread.join()
            self._thread = None

    def _advance(self) -> TrialReport:
        if self._thread is None:
            if not self._history and (found := self._refused()):
                return found
            self._gate: Any = beside_caller(Gate)
            self._thread = threading.Thread(target=self._train, daemon=True)
            self._thread.start()
        if self._history:
            ray.get(self._gate.survive.remote(self._history[-1].epoch))
        result = self._wait()
        if not self._history:
            self._history = ray.get(self._gate.history.remote())
        self._history.append(result)
        done = is_done(self._config.optimiser, self._history)
        if done and self._thread is not None:
            self._thread.join()
        facts = self._with_own(ray.get(self._gate.facts.remote()))
        return TrialReport(tuple(self._history), facts, done)

    def _refused(self) -> TrialReport | None:
        """The result of a model that is beyond a limit, found by one that nobody trains."""
        limits = self._home.limits
        if limits == Limits():
            return None
        dims = ray.get(self._data).dims
        if limits.latency_ms is not None:
            # This process has no GPU; a worker may.
            share = share_of(self._workers, self._config.run.device, None)
            task = ray.remote(_measure).options(num_cpus=share.cpus, num_gpus=share.gpus)
            self._latency = ray.get(task.remote(self._config, dims))
        count = count_parameters(self._config, sum(dims))
        self._margins = limits.margins(count, self._latency)
        why = limits.describe(count, self._latency)
        facts = self._with_own(TrialFacts(parameters=count))
        return TrialReport(facts=facts, refusal=why) if why else None

    def _with_own(self, facts: TrialFacts) -> TrialFacts:
        """The facts with what the trial's own process knows."""
        return replace(
            facts,
            margins=self._margins,
            devices=self._home.devices,
            maker=replace(facts.maker or Maker.here(1), workers=self._workers),
            accumulation=self._accumulation,
            note=self._note,
        )

    def _train(self) -> None:
        try:
            train_on_workers(
                partial(Trainer, self._config),
                self._data,
                self._workers,
                share_of(self._workers, self._config.run.device, None),
                TrialCheckpoints(self._home, self._number, self._gate),
                _keep_nothing,
                self._receive,
            )
        except BaseException as error:
            self._error = error

    def _receive(self, result: EpochResult) -> None:
        if self._stopping:
            raise StopTrialError
        self._results.put(result)

    def _wait(self) -> EpochResult:
        """The next epoch's result."""
        assert self._thread is not None
        while True:
            alive = self._thread.is_alive()
            try:
                return self._results.get(timeout=_POLL_S)
            except queue.Empty:
                if not alive:
                    error = self._error or RuntimeError("the inner run ended early")
                    if isinstance(error, StoreError):
                        self._forget_run()
                    raise error from None

    def _epochs(self) -> Sequence[EpochResult]:
        return self._history

    def _halve(self) -> None:
        super()._halve()
        self._forget_run()

    def _forget_run(self) -> None:
        """The next step begins an inner run, which goes on from the last checkpoint."""
        self._thread = None
        self._history = []
        self._results = queue.Queue()
        self._error = None
        self._stopping = False


def _measure(config: TemporalConfig, dims: Sequence[int]) -> float:
    """The latency of a model that nobody trains, in milliseconds."""
    model = TemporalModel(config, dims).to(choose_device(config.run.device))
    return measure_latency(model, config)


def _keep_nothing(trainer: Trainer) -> None:
    """The last epoch's checkpoint has left the model."""
