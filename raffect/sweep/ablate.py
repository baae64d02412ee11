"""The stage `ablate`: variants and seeds as the trials of one sweep, which given again extends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raffect.affwild2.tasks import Task
from raffect.config import TemporalConfig
from raffect.context import Context
from raffect.errors import SettingsError
from raffect.settings import override
from raffect.store import Store
from raffect.store.features import FeatureNames, feature_names, plain_names
from raffect.sweep.ablation import SPACE, Variant, missing_trials, plan_variants
from raffect.sweep.frozen import FrozenSets, plan_frozen_sets
from raffect.sweep.leaderboard import SweepView
from raffect.sweep.ledger import OnUpdate
from raffect.sweep.plan import make_plan
from raffect.sweep.points import Recipe
from raffect.sweep.retrain import Retraining, plan_retraining
from raffect.sweep.settings import SweepSettings
from raffect.sweep.study import SweepStudy
from raffect.sweep.tune import Work, auxiliary_tasks, carry_out, open_stage
from raffect.temporal.data import load_sources

SETTINGS = SweepSettings(pruning="none", trackers=())
"""Every variant is trained in full; nothing is sampled."""


@dataclass(frozen=True)
class Ablation:
    """What to train.

    Attributes:
        features: Those of the base.
        variants: The full model first.
        frozen: Features for the row without fine-tuning; None leaves it out.
        notes: Which rows are left out, and why.
    """

    features: str | list[str]
    base: TemporalConfig
    variants: Sequence[Variant]
    frozen: FrozenSets | None
    notes: Sequence[str]


def find_base(
    store: Store, name: str, task: Task, features: Sequence[str] | None = None
) -> Retraining:
    """The trial that `--base` names, with its settings and features.

    Raises:
        NotThereError: There is no such sweep, or no model of that trial, e.g. as it failed.
        SettingsError: It is of another task, or of other features than those that are asked for.
        ConflictError: Its features were made again since.
    """
    found = plan_retraining(store, name)
    if found.config.task is not task:
        raise SettingsError(
            f"--base {name} is a trial of {found.config.task}; the command is for {task}.",
            f"a trial of {task}",
            f"Name another sweep, or give `raffect ablate {found.config.task}`.",
        )
    if features and feature_names(features) != feature_names(found.features):
        raise SettingsError(
            f"--features {', '.join(features)}: the trial of --base has"
            f" {', '.join(feature_names(found.features))}.",
            "--base or --features",
            "Leave --features out.",
        )
    return found


def plan_ablation(
    store: Store,
    base: TemporalConfig,
    features: FeatureNames,
    without: Sequence[str] = (),
    frozen: str | None = None,
) -> Ablation:
    """The variants of a base configuration; reads the store, and writes nothing.

    Args:
        without: What to leave out beside the paper's rows (ablation.leave_out).
        frozen: Features of the frozen encoder, or a name for them.

    Raises:
        NotThereError: There are no such features.
        SettingsError: Something can't be left out, or a variant is no valid model.
        ConflictError: The features were made from another dataset.
    """
    load_sources(store, features)
    found = plan_frozen_sets(store, features, frozen)
    notes = [f"without fine-tuning: left out, {found}."] if isinstance(found, str) else []
    sets = None if isinstance(found, str) else found
    variants, left_out = plan_variants(base, without, sets.features if sets else None, features)
    return Ablation(plain_names(features), base, variants, sets, notes + left_out)


def ablate(
    store: Store,
    name: str,
    wanted: Ablation,
    seeds: int | None = None,
    settings: SweepSettings = SETTINGS,
    on_update: OnUpdate | None = None,
    context: Context = Context(),
) -> SweepView:
    """Train each variant under each seed; frozen.make_frozen has made the frozen features.

    Given again, it goes on where it was. More seeds or more variants extend it; what is there
    already is not trained again.

    Raises: as `tune`.
    """
    base, task = wanted.base, wanted.base.task
    frozen = wanted.frozen.features if wanted.frozen else None
    sources = load_sources(store, wanted.features)
    if frozen is not None:
        sources |= load_sources(store, frozen)
    plan = make_plan(task, wanted.features, base, SPACE, Recipe({}), settings)
    plan["ablation"] = {"frozen": frozen}
    stage, before = open_stage(store, name, plan, sources, context)
    rows = [] if before is None else before.rows
    new = missing_trials(rows, base, wanted.variants, seeds)
    if stage.finished is not None and before is not None and not new:
        return before
    settings = override(settings, {"trials": len(rows) + len(new)})
    variants = [*(Variant.of(row)[0] for row in rows), *wanted.variants]
    others: list[str | list[str]] = []
    for variant in variants:
        if variant.features is not None and variant.features not in others:
            others.append(variant.features)
    configs = [override(base, variant.changes) for variant in variants]
    auxiliary = sorted({of for config in configs for of in auxiliary_tasks(config, Recipe({}))})
    work = Work(wanted.features, SPACE, base, settings, auxiliary, others)

    def begin(study: SweepStudy) -> None:
        study.enqueue(new)

    return carry_out(stage, before, name, work, begin, on_update, context)
