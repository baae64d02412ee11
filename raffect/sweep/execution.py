"""How a sweep's trials run on the cluster: Tune's actors, one trial each at a time."""

from __future__ import annotations

import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray

from raffect import engine, interrupts
from raffect.config import Device
from raffect.context import TRIAL_BYTES, OnNote
from raffect.errors import SettingsError
from raffect.sweep.ledger import MAX_LOSSES, Ledger
from raffect.sweep.processes import lean
from raffect.sweep.settings import SweepSettings
from raffect.temporal.data import TaskData
from raffect.text import size_text

if TYPE_CHECKING:
    from ray import tune

    from raffect.sweep.trial import TrialHome
    from raffect.sweep.watch import Clocks

_ASK_EVERY_S = 2.0
"""Least seconds between two looks at what the cluster holds."""


@dataclass(frozen=True)
class Execution:
    """How many trials run at a time, and what each takes of the cluster.

    Attributes:
        gpus: GPUs of a trial; several may share one.
        workers: Processes that train a trial's model together, beside the trial's own.
        devices: GPUs that a trial takes in all; without GPUs its slots.
        grows: More run at a time where nodes come, and fewer where they go.
    """

    concurrent: int
    cpus: float
    gpus: float
    workers: int = 1
    devices: float = 1.0
    grows: bool = False


def plan_execution(settings: SweepSettings, is_local: bool, device: Device) -> Execution:
    """Fit trials to the cluster; one that is local is this machine and won't grow.

    Args:
        device: run.device of the trials.

    Raises:
        SettingsError: Trials want GPUs that are not there and never will be, or that run.device
            does not use, or more memory.
    """
    cpus, gpus = engine.count_cpus(), usable_gpus(device)
    if settings.workers_per_trial > 1:
        return _plan_workers(settings, cpus, gpus, is_local)
    if device == "cpu" and settings.gpus_per_trial:
        raise SettingsError(
            f"Each trial wants {settings.gpus_per_trial:g} GPUs, and run.device is cpu.",
            "GPUs for trials that use them",
            "Leave --gpus-per-trial or run.device out.",
        )
    if device == "cuda" and settings.gpus_per_trial == 0:
        raise SettingsError(
            "Trials take no GPU (--gpus-per-trial 0), and run.device is cuda.",
            "more than 0, e.g. 0.25, or run.device = cpu",
            "Correct one of the two.",
        )
    per_trial = min(1.0, gpus) if settings.gpus_per_trial is None else settings.gpus_per_trial
    if per_trial > gpus and is_local:
        raise SettingsError(
            f"Each trial wants {per_trial:g} GPUs; this machine has {gpus:g}.",
            f"at most {gpus:g}",
            "Lower --gpus-per-trial, or give a cluster's --address.",
        )
    found = fitting(settings, cpus, gpus, per_trial)
    concurrent = settings.concurrent or max(1, found)
    if per_trial and is_local:
        # Trials that wait for a GPU would be asked for before the study knows more.
        concurrent = min(concurrent, found)
    if is_local:
        concurrent = min(concurrent, settings.trials or concurrent)
        concurrent = _within_memory(concurrent, is_wanted=settings.concurrent is not None)
    grows = not is_local and settings.concurrent is None
    # More trials than cores share them, in Ray's smallest parts of a core; an actor that asks for
    # more than there is never starts. A cluster that grows brings cores with its nodes.
    share = min(1.0, math.floor(1e4 * cpus / concurrent) / 1e4) if is_local else 1.0
    return Execution(concurrent, share, per_trial, devices=per_trial or 1.0, grows=grows)


def _within_memory(concurrent: int, is_wanted: bool) -> int:
    """Trials at a time for whose processes there is memory, data and models aside.

    Raises:
        SettingsError: The user wants more than that.
    """
    held: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    free = held.get("memory", math.inf)
    most = max(1, math.floor(free / TRIAL_BYTES)) if math.isfinite(free) else concurrent
    if concurrent > most and is_wanted:
        raise SettingsError(
            f"{concurrent} trials at a time take {size_text(concurrent * TRIAL_BYTES)} of"
            f" memory or more; this machine has {size_text(free)} free.",
            f"at most {most} at a time",
            "Lower --concurrent, or give a cluster's --address.",
        )
    return min(concurrent, most)


def _plan_workers(settings: SweepSettings, cpus: float, gpus: float, is_local: bool) -> Execution:
    """Trials that take next to nothing, and wait for workers of their own.

    No more trials run than have room for all their workers: otherwise trials hold what the
    workers of others wait for, and none goes on.
    """
    if settings.gpus_per_trial:
        raise SettingsError(
            f"Each trial wants {settings.gpus_per_trial:g} GPUs and "
            f"{settings.workers_per_trial} workers.",
            "--workers-per-trial, each worker with a GPU of its own, or --gpus-per-trial",
            "Leave one of the two out.",
        )
    workers = settings.workers_per_trial
    found = max(1, fitting(settings, cpus, gpus, 0.0))
    concurrent = min(settings.concurrent or found, found)
    grows = not is_local and settings.concurrent is None
    return Execution(concurrent, 0.01, 0.0, workers, float(workers), grows)


def usable_gpus(device: Device) -> float:
    """GPUs that trials with this run.device may use."""
    return 0.0 if device == "cpu" else engine.count_gpus()


def fitting(settings: SweepSettings, cpus: float, gpus: float, per_trial: float) -> int:
    """How many trials fit at a time; `per_trial` are the GPUs of a trial in one process."""
    workers = settings.workers_per_trial
    if workers > 1:
        found = math.floor((cpus - 0.1) / (workers * engine.cpus_per_worker(workers, cpus)))
        by_gpu = math.floor(gpus / workers) if gpus >= workers else found
        return max(0, min(found, by_gpu))
    by_gpu = math.floor(gpus / per_trial + 1e-9) if per_trial else math.floor(cpus)
    return min(by_gpu, math.floor(cpus))


def room_for(settings: SweepSettings, execution: Execution, device: Device) -> Callable[[], int]:
    """How many trials may run at a time: a number, or what the cluster holds at each moment.

    One trial is always asked for, so that a cluster that begins without nodes for it sees what it
    has to start. For more than one at a time on a cluster that grows, the user gives
    `--concurrent`: all of these are asked for at once.
    """
    if not execution.grows:
        return lambda: execution.concurrent
    per_trial = execution.gpus if execution.workers == 1 else 0.0
    room, asked = execution.concurrent, time.monotonic()

    def room_now() -> int:
        nonlocal room, asked
        if time.monotonic() - asked > _ASK_EVERY_S:
            room = max(1, fitting(settings, engine.count_cpus(), usable_gpus(device), per_trial))
            asked = time.monotonic()
        return room

    return room_now


def share(data: TaskData) -> ray.ObjectRef[Any]:
    """The data where all processes of the cluster reach it."""
    return ray.put(data)


def execute(
    ledger: Ledger,
    data: Sequence[ray.ObjectRef[Any]],
    home: TrialHome,
    execution: Execution,
    room: Callable[[], int],
    callbacks: Sequence[tune.Callback],
    look: Callable[[], None],
    others: Sequence[str | list[str]],
    clocks: Clocks,
    on_note: OnNote,
    is_local: bool = False,
) -> None:
    """Run trials until the ledger has none, or the run is interrupted.

    Tune keeps nothing that is needed afterwards: its folder is temporary. `room` is how many
    trials may run at a time, now; the callbacks are trackers (trackers.py); `look` is called
    several times a second. The first of the `data` is the sweep's; the rest has the features that
    `others` names, which some trials read in its place.
    """
    from ray import tune

    from raffect.sweep.ray_tune import StudyScheduler, StudySearcher, StudyStopper
    from raffect.sweep.trial import SweepTrial
    from raffect.sweep.watch import TrialWatch

    searcher = StudySearcher(ledger, room, others)
    # In a list, so that the engine does not resolve it: each trial decides what to do with it.
    shared = list(data)
    if execution.workers == 1:
        trainable = tune.with_parameters(SweepTrial, data=shared, home=home)
    else:
        from raffect.sweep.trial_on_workers import SweepTrialOnWorkers

        trainable = tune.with_parameters(
            SweepTrialOnWorkers, data=shared, home=home, workers=execution.workers
        )
    trainable = tune.with_resources(trainable, {"cpu": execution.cpus, "gpu": execution.gpus})
    # Ray's dashboard lists the actors by it.
    trainable.__qualname__ = trainable.__name__
    with (
        tempfile.TemporaryDirectory(prefix="raffect-") as local,
        _calm(),
        lean(is_local),
        interrupts.deferred(),
        interrupts.kept(),
    ):
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=StudyScheduler(searcher),
                # The searcher says when there is none; trials that it took back count twice here.
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=_name,
                trial_dirname_creator=_name,
            ),
            run_config=tune.RunConfig(
                name=home.sweep,
                storage_path=local,
                verbose=0,
                stop=StudyStopper(searcher, look),
                callbacks=[*callbacks, TrialWatch(clocks, searcher.ended, on_note)],
                failure_config=tune.FailureConfig(max_failures=MAX_LOSSES),
                checkpoint_config=tune.CheckpointConfig(
                    checkpoint_frequency=0, checkpoint_at_end=False
                ),
            ),
        ).fit()


def _name(trial: tune.experiment.Trial) -> str:
    return f"trial-{trial.config['number']:05d}"


@contextmanager
def _calm() -> Iterator[None]:
    """Trials' errors are in the study; the engine need not print them."""
    os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")
    # The searcher says how many; Tune's own limit can't change while it runs, and without one
    # Tune would start one process after the other.
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "10000")
    # Tune's account of all trials, for a twentieth of the driver's time; nobody reads it.
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", str(10**9))
    logger = logging.getLogger("ray.tune")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
