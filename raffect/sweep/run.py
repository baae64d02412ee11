"""The stage `tune`: plan the sweep, open its study, run the trials that are missing, finish."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from optuna.trial import FrozenTrial

from raffect import engine
from raffect.affwild2.labels import load_labels
from raffect.affwild2.tasks import Task
from raffect.config import TemporalConfig, build, override, recipe
from raffect.errors import NotThereError, RaffectError
from raffect.store import FileEntry, Stage, Store, sweep_folder
from raffect.store.layout import MANIFEST
from raffect.store.stage import Part
from raffect.sweep.execution import Execution, execute, plan_execution
from raffect.sweep.leaderboard import SweepView, load_sweep
from raffect.sweep.ledger import Ledger, OnUpdate, SweepProgress
from raffect.sweep.reasons import summarise
from raffect.sweep.recipe import Recipe, derive_recipe
from raffect.sweep.settings import SweepSettings
from raffect.sweep.space import Space, load_space
from raffect.sweep.study import FILES, REASON, SweepStudy
from raffect.sweep.trial import CHECKPOINT, TrialHome
from raffect.temporal.baseline import trivial_score
from raffect.temporal.data import TaskData, load_sources, load_task_data
from raffect.temporal.model import auxiliary_weights, check_model

__all__ = ["SweepProgress", "tune"]

_AUXILIARY = "losses.auxiliary."


def tune(
    store: Store,
    task: Task,
    features: str,
    name: str,
    settings: SweepSettings | None = None,
    base: TemporalConfig | None = None,
    overwrite: bool = False,
    address: str | None = None,
    on_update: OnUpdate | None = None,
) -> SweepView:
    """Search the best model of a task.

    Given again, it goes on where it was: with trials that were running when a driver was killed,
    and with those that are missing. More `trials` extend a sweep; what else decides about its
    numbers may not change.

    Args:
        store: The store.
        task: The task.
        features: Name of the features.
        name: Name of the sweep.
        settings: The sweep's settings.
        base: Settings that the space changes, and trial 0; the recipe by default.
        overwrite: Replace a sweep of this name that was made otherwise.
        address: The Ray cluster.
        on_update: Called when a trial begins, finishes an epoch, or ends.

    Raises:
        SettingsError: The space or the base configuration is wrong, or the one does not contain
            the other.
        NotThereError: No such features, or no labels of a task that is trained on.
        ConflictError: A sweep of this name was made with other settings, or another command has
            taken it over.
        RaffectError: All trials fail.
    """
    settings, base = settings or SweepSettings(), base or recipe(task)
    space = load_space(settings.space or f"tune_spaces.{task.value}")
    settings = override(settings, {"trials": settings.trials or space.trials})
    base = override(base, {"optimiser.epochs": settings.max_epochs or base.optimiser.epochs})
    assert base.task is task
    check_model(base)
    first = derive_recipe(space, base)
    sources = load_sources(store, features)
    stage = Stage(
        store,
        sweep_folder(name),
        "sweep",
        plan(task, features, base, space, first, settings),
        sources,
        overwrite,
    )
    if stage.finished is not None and settings.trials is not None:
        view = load_sweep(store, name)
        if len(view.rows) >= settings.trials:
            return view
        # It is unfinished again; the plan keeps guarding its settings.
        store.delete(f"{stage.folder}/{MANIFEST}")
    engine.connect(address)
    execution = plan_execution(settings, is_local=not address)
    study = SweepStudy(store, name, space, base, settings)
    study.enqueue(first)
    if study.remaining:
        data = load_task_data(store, features, task, auxiliary_tasks(base, first))
        check_auxiliary(data)
        study.describe({"baseline": baseline(store, task)})
        home = TrialHome(
            store,
            name,
            settings.rungs(base.optimiser.epochs),
            settings.checkpoint_seconds,
        )
        run_trials(study, data, home, base.optimiser.epochs, settings, execution, on_update)
    return finish(stage, study, name)


def plan(
    task: Task,
    features: str,
    base: TemporalConfig,
    space: Space,
    first: Recipe,
    settings: SweepSettings,
) -> dict[str, Any]:
    """What a sweep's name is bound to; how many trials, and how many at a time, is left free.

    The space is there twice: its ranges so that a difference can be read, its code so that none
    is missed.
    """
    return {
        "task": task.value,
        "features": features,
        "base": base.canonical(),
        "space": {"ranges": first.describe(), "code": space.code},
        "sweep": settings.binding(),
    }


def auxiliary_tasks(base: TemporalConfig, first: Recipe) -> list[Task]:
    """Other tasks that trials may train on: weighted in the base, or searched by the space."""
    searched = {
        Task(name.removeprefix(_AUXILIARY)) for name in first.params if name.startswith(_AUXILIARY)
    }
    return sorted({*auxiliary_weights(base), *searched} - {base.task})


def check_auxiliary(data: TaskData) -> None:
    """Refuse to search the weight of a loss without labels.

    Raises:
        NotThereError: An auxiliary task has no valid frame in training.
    """
    missing = [task.value for task, of in data.train.labels.items() if not of.valid.any()]
    if missing:
        raise NotThereError(
            f"There are no training labels of {', '.join(missing)} for the videos of "
            f"{data.task.value}.",
            "auxiliary losses of tasks with labels",
            "Use a space without these losses, e.g. --space tune_spaces.va.",
        )


def baseline(store: Store, task: Task) -> dict[str, Any]:
    """The trivial prediction's score, for readers of the leaderboard."""
    labels = load_labels(store, task)
    found = trivial_score(task, labels, labels)
    return {"score": found.value, "parts": found.parts}


def run_trials(
    study: SweepStudy,
    data: TaskData,
    home: TrialHome,
    epochs: int,
    settings: SweepSettings,
    execution: Execution,
    on_update: OnUpdate | None,
) -> None:
    """Run what is missing.

    Raises:
        RaffectError: Every trial of this run failed.
        KeyboardInterrupt: The user stopped it; running trials are left to be continued.
    """
    finished = study.finished()
    scored = {row.number: row.value for row in finished if row.value is not None}
    best = max(scored, key=lambda number: scored[number], default=None)
    ledger = Ledger(
        study=study,
        epochs=epochs,
        max_failures=settings.max_failures or 5,
        on_update=on_update,
        finished=len(finished),
        best=None if best is None else scored[best],
        best_trial=best,
    )
    execute(ledger, data, home, execution)
    if ledger.error is not None:
        raise ledger.error
    if ledger.gave_up:
        raise _all_failed(home.sweep, ledger.reasons)
    if ledger.live or study.remaining:
        # Tune has taken the signal and ended in order.
        raise KeyboardInterrupt


def finish(stage: Stage, study: SweepStudy, name: str) -> SweepView:
    """Make the sweep exist: checkpoints away, the study in one object, the manifest last.

    Raises:
        RaffectError: There is no model in it.
    """
    finished = study.finished()
    if not any(row.value is not None for row in finished):
        raise _all_failed(name, list(_failures(finished).values()))
    inside = f"/{CHECKPOINT}/"
    files = stage.store.files(f"{stage.folder}/trials")
    for folder in {key.partition(inside)[0] + inside[:-1] for key in files if inside in key}:
        stage.store.delete(folder)
    study.close()
    best = max((row for row in finished if row.value is not None), key=lambda row: row.value or 0)
    counts = {
        "trials": len(finished),
        "states": dict(Counter(row.state.name for row in finished)),
        "best": {"trial": best.number, "score": best.value},
    }
    stage.finish(
        [*_models(finished), *_study_files(stage)],
        counts=counts,
        notes={"failures": _failures(finished)},
    )
    return load_sweep(stage.store, name)


def _models(finished: Sequence[FrozenTrial]) -> list[Part]:
    """Files of the trials' models, with the digests of when they were written."""
    entries = [entry for row in finished for entry in row.user_attrs.get(FILES, ())]
    return [Part(entry=build(FileEntry, entry)) for entry in entries]


def _study_files(stage: Stage) -> list[Part]:
    parts = []
    for key in stage.store.files(f"{stage.folder}/study"):
        name = key.removeprefix(f"{stage.folder}/")
        parts.append(Part(entry=FileEntry.of(name, stage.store.read_bytes(key))))
    return parts


def _failures(finished: Sequence[FrozenTrial]) -> dict[str, str]:
    """Reasons by trial number."""
    failed = (row for row in finished if REASON in row.user_attrs)
    return {str(row.number): row.user_attrs[REASON] for row in failed}


def _all_failed(name: str, reasons: list[str]) -> RaffectError:
    return RaffectError(
        f"All {len(reasons)} trials of the sweep {name!r} failed:\n{summarise(reasons)}",
        "a base configuration and a space in which trials can run",
        "Change what the reason names with --set or --space, and give another --name or "
        "--overwrite.",
    )
