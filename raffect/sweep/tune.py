"""The stage `tune`: plan the sweep, open its study, run the trials that are missing, finish."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from raffect import engine
from raffect.affwild2.folds import check_fold
from raffect.affwild2.tasks import Task
from raffect.config import TemporalConfig, check_task, recipe
from raffect.context import Context
from raffect.errors import DamagedError, NotThereError, RaffectError, SettingsError
from raffect.settings import build, override
from raffect.store import FileEntry, Stage, Store, sweep_folder
from raffect.store.features import FeatureNames, feature_names
from raffect.store.layout import CHECKPOINT, LEASE, MANIFEST, STUDY, TRIALS
from raffect.store.lease import held
from raffect.store.stage import StagePart, begun_with
from raffect.store.stage import read_plan as read_stage_plan
from raffect.sweep.attributes import (
    BASELINE,
    ENDED,
    FINISHED,
    LINEAR_FLOOR,
    POINT,
    RECIPE,
    SEEN,
    SPACE,
    WARM,
)
from raffect.sweep.beginning import Beginning
from raffect.sweep.budget import Budget, exhausted
from raffect.sweep.execution import execute, plan_execution, room_for, share
from raffect.sweep.failures import is_loss, summarise
from raffect.sweep.floor import FloorTask
from raffect.sweep.keeping import Keeper, removable, without_removed
from raffect.sweep.leaderboard import SweepView, load_sweep
from raffect.sweep.ledger import Ledger, OnUpdate
from raffect.sweep.mixture import tell_others
from raffect.sweep.plan import SweepPlan, is_older, make_plan
from raffect.sweep.points import Recipe, check_space, derive_points, derive_recipe
from raffect.sweep.processes import IMPORTS
from raffect.sweep.quiet import quiet
from raffect.sweep.records import Maker, TrialRow, best_of, read_row
from raffect.sweep.settings import Limits, SweepSettings
from raffect.sweep.space import Space, load_space
from raffect.sweep.study import SweepStudy
from raffect.sweep.together import Together
from raffect.sweep.warmstart import Target, warm_start
from raffect.temporal.checks import (
    auxiliary_weights,
    check_model,
    describe_gaps,
    describe_idle,
)
from raffect.temporal.data import check_groups, load_sources, load_task_data
from raffect.temporal.seen import describe_seen, find_seen
from raffect.temporal.sharding import Sharding, choose_shards
from raffect.temporal.shared import shared_reader

_AUXILIARY = "losses.auxiliary."


def tune(
    store: Store,
    task: Task,
    features: FeatureNames,
    name: str,
    settings: SweepSettings | None = None,
    base: TemporalConfig | None = None,
    on_update: OnUpdate | None = None,
    context: Context = Context(),
    together: Together | None = None,
) -> SweepView:
    """Search the best model of a task.

    Given again, it goes on where it was: with trials that were running when a driver was killed,
    and with those that are missing. More `trials` extend a sweep; what else decides about its
    numbers may not change.

    Args:
        base: Settings that the space changes, and trial 0; the recipe by default.
        on_update: Called when a trial begins, finishes an epoch, or ends.
        context: Its `on_note` also hears of another command that may still be at the sweep, of a
            tracker that does not work, and of trials that were computed with other code.
        together: What it shares with other sweeps of the command.

    Raises:
        SettingsError: The space or the base configuration is wrong, or the one does not contain
            the other; or there are too few videos for all workers of a trial to have a share.
        NotThereError: No such features, or no labels of a task that is trained on.
        ConflictError: A sweep of this name was made with other settings, or with other code where
            that is refused, or another command is at it.
        RaffectError: Too many trials fail.
    """
    settings, base = (
        settings or SweepSettings(),
        base or recipe(task, len(feature_names(features))),
    )
    space = load_space(settings.space or f"tune_spaces.{task.value}")
    settings = override(settings, {"trials": settings.trials or space.trials})
    base = override(base, {"optimiser.epochs": settings.max_epochs or base.optimiser.epochs})
    check_task(base, task, f"The sweep {name!r}")
    check_model(base)
    begun = None if context.overwrite else begun_with(store, sweep_folder(name))
    sharding = Sharding(settings.shard_features, settings.shard_above)
    base = choose_shards(
        store, base, features, settings.workers_per_trial, sharding,
        None if begun is None else begun.get("base", {}), context,
    )  # fmt: skip
    first, points = derive_recipe(space, base), derive_points(space, base)
    check_space(space, base)
    sources = load_sources(store, features)
    if base.postprocess == "fit" or "postprocess" in first.params:
        check_groups(store, task, base.fold)
    plan = make_plan(task, features, base, space, first, settings)
    if is_older(read_stage_plan(store, sweep_folder(name)), plan):
        context.on_note(f"Not checked, as this sweep is older: {', '.join(space.helpers)}.")
        del plan["space"]["helpers"]
    stage, before = open_stage(store, name, plan, sources, context)
    if stage.finished is not None and before is not None:
        done = is_enough(before, settings)
        if done and not removable(store, name, before.rows, settings.keep_models):
            return before
    auxiliary = auxiliary_tasks(base, first)

    def begin(study: SweepStudy) -> None:
        if study.is_new:
            target = Target(plan, sources, space, base, first, settings, points)
            begun = beginning(store, name, target)
            taken = [read_row(name, trial) for trial in begun.results]
            now = Maker.here(settings.workers_per_trial)
            tell_others(name, taken, now, settings.require_same_code, context.on_note)
            study.begin(begun)
            for overlap in begun.overlaps:
                for line in overlap.describe():
                    context.on_note(line)
        elif lost := lost_trials(study.rows()):
            for row in lost:
                why = {
                    key: row.attributes[key] for key in (RECIPE, POINT) if key in row.attributes
                }
                study.enqueue([why], row.params)
            context.on_note(f"{describe_lost(len(lost))}: tried again.")
        check_warm_start(study, settings.warm_start)

    idle = describe_idle(base, {task, *auxiliary}, first.params)
    work = Work(features, space, base, settings, auxiliary, idle=idle, together=together)
    return carry_out(stage, before, name, work, begin, on_update, context)


@dataclass(frozen=True)
class Work:
    """The trials of a sweep, apart from where they are kept.

    Attributes:
        auxiliary: Other tasks that trials may train on.
        others: Features that some trials read in place of the sweep's.
        idle: What the user should know of settings that change nothing.
        together: What other sweeps of the command share with it.
    """

    features: FeatureNames
    space: Space
    base: TemporalConfig
    settings: SweepSettings
    auxiliary: Sequence[Task] = ()
    others: Sequence[FeatureNames] = ()
    idle: Sequence[str] = ()
    together: Together | None = None


def open_stage(
    store: Store, name: str, plan: SweepPlan, sources: Mapping[str, str], context: Context
) -> tuple[Stage, SweepView | None]:
    """A sweep's folder, checked against the plan, and what is known of its trials.

    Raises:
        ConflictError: A sweep of this name was made with other settings; to be made anew, another
            command is at it.
        SettingsError: There is no such fold of the videos.
    """
    check_fold(store, Task(plan["task"]), plan["base"].get("fold"))
    folder, note = sweep_folder(name), context.on_note
    # What another command is at is not deleted.
    with held(store, f"{folder}/{LEASE}", note) if context.overwrite else nullcontext():
        stage = Stage(store, folder, "sweep", dict(plan), sources, context.overwrite)
        try:
            return stage, None if stage.is_new else load_sweep(store, name)
        except NotThereError:
            return stage, None
        except DamagedError:
            if not context.overwrite:
                raise
            stage.restart()
            return stage, None


def carry_out(
    stage: Stage,
    before: SweepView | None,
    name: str,
    work: Work,
    begin: Callable[[SweepStudy], None],
    on_update: OnUpdate | None,
    context: Context,
) -> SweepView:
    """Run the trials that are missing, and finish the sweep; `begin` gives a study its first ones.

    Raises: as `tune`.
    """
    store, settings, base, task = stage.store, work.settings, work.base, work.base.task
    now = Maker.here(settings.workers_per_trial)
    if before is not None:
        tell_others(name, before.rows, now, settings.require_same_code, context.on_note)
    if stage.finished is not None:
        # It is unfinished again; the plan keeps guarding its settings.
        store.delete_keys([f"{stage.folder}/{MANIFEST}"])
    with held(store, f"{stage.folder}/{LEASE}", context.on_note) as lease, quiet():
        is_local, device = engine.is_local(context.address), base.run.device
        engine.connect(context.address, IMPORTS)
        execution = plan_execution(settings, is_local, device)
        together = work.together or Together(shared_reader(context.address))
        in_advance = is_local and execution.workers == 1
        begun = together.take(execution.concurrent) if in_advance else None
        # What imports Tune, a second's work: the processes of trials begin beside it.
        from raffect.sweep.trackers import make_callbacks
        from raffect.sweep.trial import TrialHome
        from raffect.sweep.watch import Clocks

        trackers = make_callbacks(settings.trackers, store, name, task.value, context.on_note)
        study = SweepStudy(store, name, work.space, base, settings, lambda: lease.is_sure)
        begin(study)
        # A driver may have been killed behind its last trial, and before the floor was there.
        if study.remaining or LINEAR_FLOOR not in study.facts:
            data, *others = (
                load_task_data(store, one, task, work.auxiliary, base.fold, together.read)
                for one in (work.features, *work.others)
            )
            seen = find_seen(store, stage.plan.sources, task, base.fold)
            told = [*work.idle, *describe_gaps(data.train.trained_labels())]
            for line in told + describe_seen(seen, base.fold):
                context.on_note(line)
            baseline = {"score": data.trivial.value, "parts": data.trivial.parts}
            study.describe({BASELINE: baseline, SPACE: work.space.name, SEEN: seen})
            spent = sum(row.device_seconds for row in study.rows() if row.state in FINISHED)
            budget = Budget(
                settings.max_hours,
                settings.max_device_hours,
                study.seconds_before,
                execution.devices,
                spent,
            )
            epochs = base.optimiser.epochs
            keeper = Keeper(store, name, settings.keep_models)
            for row in study.rows():
                keeper.take(row)
            clocks = Clocks.of(settings)

            def ended(row: TrialRow) -> None:
                clocks.settle(row.number)
                keeper.take(row)

            ledger = Ledger(study, epochs, budget, settings.max_failures, on_update, ended)
            home = TrialHome(
                store,
                name,
                settings.rungs(epochs),
                settings.checkpoint_seconds,
                Limits.of(settings),
                execution.devices,
                now.code if settings.require_same_code else None,
            )
            if execution.workers == 1:
                engine.tell_waiting(context.on_note, 1, execution.cpus, execution.gpus)
            else:
                engine.share_of(execution.workers, base.run.device, context.on_note)
            shared = [share(one) for one in (data, *others)]
            names = [one.lineage["features"] for one in others]
            floor = FloorTask(study, shared[0], context.on_note, is_local)
            room = room_for(settings, execution, device)
            if begun is not None:
                begun.wait()

            def look() -> None:
                floor.look()
                if in_advance:
                    together.look_ahead(ledger, execution.concurrent)

            execute(
                ledger, shared, home, execution, room, trackers, look, names, clocks,
                context.on_note, is_local,
            )  # fmt: skip
            check_ended(ledger, name)
            floor.look(wait=True)
        return finish(stage, study, name, settings.keep_models)


def is_enough(view: SweepView, settings: SweepSettings) -> bool:
    """Whether a finished sweep has all that is asked for, or has spent what it may."""
    assert settings.trials is not None
    ended = sum(view.counts.values()) - view.counts.get("WAITING", 0)
    spent = exhausted(settings.max_hours, settings.max_device_hours, view.hours, view.device_hours)
    waits = view.counts.get("WAITING", 0) > 0
    return (ended >= settings.trials and not waits) or spent is not None


def beginning(store: Store, name: str, target: Target) -> Beginning:
    """The first trials of a new sweep: the recipe, known-good points, what other sweeps bring."""
    wanted = target.settings.warm_start
    if name in wanted:
        raise SettingsError(
            f"The sweep {name!r} can't begin with itself.",
            "other sweeps",
            "Run the same command without --warm-start: it continues.",
        )
    warm = warm_start(store, wanted, target)
    begun = Beginning(results=warm.results, overlaps=warm.overlaps)
    known = [trial.params for trial in warm.results]
    for params in target.kept:
        if params not in known:
            known.append(params)
            is_first = params == target.first.params
            why = {RECIPE: True} if is_first else {POINT: target.space.name}
            begun.points.append((params, why))
    begun.points += warm.points
    return begun


def lost_trials(rows: Sequence[TrialRow]) -> list[TrialRow]:
    """The trials of a sweep to try again: all, if no one ended but by the loss of its process.

    Each is there once, however often it was lost, and none that waits for another try.
    """
    own = [row for row in rows if row.origin is None]
    if not all(row.reason and is_loss(row.reason) for row in own if row.state in FINISHED):
        return []
    last = {repr(sorted(row.params.items())): row for row in own}
    return [row for row in last.values() if row.state == "FAIL"]


def describe_lost(count: int) -> str:
    """How many trials were lost."""
    one = "The sweep's only trial was lost with its process"
    return one if count == 1 else f"All {count} trials of the sweep were lost with their processes"


def auxiliary_tasks(base: TemporalConfig, first: Recipe) -> list[Task]:
    """Other tasks that trials may train on: weighted in the base, or searched by the space."""
    searched = {
        Task(name.removeprefix(_AUXILIARY)) for name in first.params if name.startswith(_AUXILIARY)
    }
    return sorted({*auxiliary_weights(base), *searched} - {base.task})


def check_warm_start(study: SweepStudy, wanted: Sequence[str]) -> None:
    """Refuse to begin again with other sweeps than those that this one began with."""
    had = [overlap["sweep"] for overlap in study.facts.get(WARM, ())]
    if set(wanted) - set(had):
        raise SettingsError(
            f"This sweep was begun with {', '.join(had) or 'no other sweep'}; now with"
            f" {', '.join(wanted)}.",
            "--warm-start when a sweep begins",
            "Leave it out, or begin another sweep from this one: --branch NEW.",
        )


def check_ended(ledger: Ledger, name: str) -> None:
    """Raise what ended the trials early; record a spent budget."""
    if ledger.error is not None:
        raise ledger.error
    if ledger.gave_up:
        raise too_many_failed(name, ledger.reasons, ledger.max_failures, ledger.succeeded)
    if ledger.live or (ledger.study.remaining and not ledger.budget.exhausted):
        # The user stopped it: Tune catches SIGINT and ends in order, without an error.
        raise KeyboardInterrupt
    ledger.study.describe({ENDED: ledger.budget.exhausted})


def finish(
    stage: Stage, study: SweepStudy, name: str, keep_models: int | None = None
) -> SweepView:
    """Make the sweep exist: checkpoints away, the study in one object, the manifest last."""
    rows = [row for row in study.rows() if row.state in FINISHED]
    own = [row for row in rows if row.origin is None]
    failures = {str(row.number): row.reason for row in own if row.reason is not None}
    if not any(row.model for row in rows):
        raise too_many_failed(name, list(failures.values()))
    for row in removable(stage.store, name, rows, keep_models):
        Keeper(stage.store, name, keep_models).remove(row)
    inside = f"/{CHECKPOINT}/"
    files = stage.store.files(f"{stage.folder}/{TRIALS}")
    for folder in {key.partition(inside)[0] + inside[:-1] for key in files if inside in key}:
        stage.store.delete(folder)
    written = study.close()
    best = best_of(rows)
    # The models' digests are those of when they were written.
    kept = (entry for row in own for entry in without_removed(row, files))
    entries = [build(FileEntry, entry) for entry in kept]
    entries += [FileEntry.of(f"{STUDY}/{name}", data) for name, data in written.items()]
    stage.finish(
        [StagePart(entry=entry) for entry in entries],
        counts={
            "trials": len(own),
            "states": dict(Counter(row.state for row in own)),
            "best": None if best is None else {"trial": best.number, "score": best.score},
        },
        notes={"failures": failures},
    )
    return load_sweep(stage.store, name)


def too_many_failed(
    name: str, reasons: list[str], allowed: int | None = None, succeeded: int = 0
) -> RaffectError:
    """What to tell the user when trials fail; `allowed` is what they set as too many."""
    which = f"{len(reasons)} trials" if succeeded else f"All {len(reasons)} trials"
    which = "1 trial" if len(reasons) == 1 else which
    fewer = f"; fewer than {allowed} failures (--max-failures)" if allowed else ""
    again = "; or run the command again: it goes on with other trials" if succeeded else ""
    if all(map(is_loss, reasons)):
        return RaffectError(
            f"{which} of the sweep {name!r} failed:\n{summarise(reasons)}",
            "processes that run to their end",
            "See why they ended: memory, another user's kill, Ray's logs in /tmp/ray; of those"
            " that stood still, a GPU, a network's folder, or a short --stuck-minutes. Then run"
            " the same command again: it goes on, and tries lost trials again where all were.",
        )
    return RaffectError(
        f"{which} of the sweep {name!r} failed:\n{summarise(reasons)}",
        f"a base configuration and a space in which trials can run{fewer}",
        "Change what the reason names with --set or --space, and give another --name or "
        f"--overwrite{again}.",
    )
