"""Training a trial's configuration again under several seeds, as tasks on the cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import mean

import ray

from raffect import engine
from raffect.config import TemporalConfig
from raffect.context import Context
from raffect.errors import find_user_error
from raffect.settings import build, override
from raffect.store import Store, files_of, model_folder, sweep_folder
from raffect.store.layout import CONFIG, METRICS, SEEDS, check_name
from raffect.store.stage import try_rights
from raffect.store.verified import reading
from raffect.sweep.leaderboard import find_trial, load_sweep
from raffect.sweep.paired import Paired, paired_interval, read_sums, sums_of
from raffect.sweep.records import TrialRow, model_files
from raffect.sweep.seeds import write_seed
from raffect.temporal.data import check_lineage
from raffect.temporal.epochs import EpochResult
from raffect.temporal.train import train

OnSeed = Callable[["SeedResult"], None]


@dataclass(frozen=True)
class SeedResult:
    """A trial's configuration, trained to the end under one seed.

    Attributes:
        model: Name of the model in the store.
        score: That of its best epoch on validation.
        same: For the trial's own seed: whether every epoch that the trial had gave the very same
            score again; None for other seeds.
        versus_recipe: Against the sweep's recipe, see `against_recipe`.
    """

    seed: int
    model: str
    score: float
    best_epoch: int
    same: bool | None
    versus_recipe: Paired | None = None


@dataclass(frozen=True)
class Retraining:
    """The trial to train again, its features and settings, and the sweep that was asked for."""

    row: TrialRow
    features: str | list[str]
    config: TemporalConfig
    sweep: str

    def seeds(self, count: int) -> list[int]:
        """The trial's own seed and those after it."""
        own = self.config.run.seed
        return list(range(own, own + count))


def plan_retraining(store: Store, name: str) -> Retraining:
    """What to train again for a trial as users name it (leaderboard.find_trial).

    Raises:
        NotThereError: There is no such sweep, or no model of that trial, or no such features.
        ConflictError: The features are not those of the trial: its seeds would not compare.
    """
    sweep, row = find_trial(store, name)
    files = model_files(store, row)
    described = files.read_json(CONFIG)
    with reading(store, f"{files.folder}/{CONFIG}"):
        config = build(TemporalConfig, described["config"])
    check_lineage(store, described["lineage"])
    return Retraining(row, described["lineage"]["features"], config, sweep)


def retrain(
    store: Store,
    wanted: Retraining,
    seeds: Sequence[int],
    on_seed: OnSeed | None = None,
    context: Context = Context(),
) -> list[SeedResult]:
    """Train the configuration under each seed, as many at a time as the cluster has room for.

    Each is a model of its own in the store; those that are there already are not trained again.
    Scores are kept beside the sweep, whose leaderboard shows their spread.

    Args:
        on_seed: Called with each result, in the order in which they come.

    Raises:
        SettingsError: The trial wants a GPU, and this machine has none.
        ConflictError: A model's name is taken by something else.
        StoreError: The key for the store lacks a right.
        RaffectError: Training diverged.
    """
    try_rights(store, f"{sweep_folder(wanted.sweep)}/{SEEDS}")
    engine.connect(context.address)
    engine.check_gpus(wanted.config.run.device, 1, context.address)
    share = engine.share_of(1, wanted.config.run.device, context.on_note, cpus=1)
    task = ray.remote(_train_seed)
    remote = task.options(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=2)
    waiting = {remote.remote(store, wanted, seed): seed for seed in seeds}
    found: dict[int, SeedResult] = {}
    while waiting:
        (done,), _ = ray.wait(list(waiting), num_returns=1)
        seed = waiting.pop(done)
        try:
            found[seed] = ray.get(done)
        except Exception as error:
            raise find_user_error(error) or error from None
        if on_seed is not None:
            on_seed(found[seed])
    return [found[seed] for seed in seeds]


def against_recipe(
    store: Store, wanted: Retraining, found: Sequence[SeedResult]
) -> tuple[list[SeedResult], Paired | None]:
    """The results with their paired differences to the sweep's recipe, and that of their mean.

    None where the trial is the recipe, or where the recipe has not its full score or no sums.
    """
    recipe = load_sweep(store, wanted.sweep).recipe
    if recipe is None or recipe.number == wanted.row.number or recipe.state != "COMPLETE":
        return list(found), None
    theirs, score = read_sums(store, recipe), recipe.score
    ours = [sums_of(store, model_folder(one.model), one.best_epoch) for one in found]
    if theirs is None or score is None or any(one is None for one in ours):
        return list(found), None
    task = wanted.config.task
    pairs = [(one, theirs) for one in ours if one is not None]
    each = [
        replace(one, versus_recipe=Paired(one.score - score, paired_interval(task, [pair])))
        for one, pair in zip(found, pairs, strict=True)
    ]
    gap = mean(one.score for one in found) - score
    return each, Paired(gap, paired_interval(task, pairs))


def _train_seed(store: Store, wanted: Retraining, seed: int) -> SeedResult:
    name = check_name(f"{wanted.sweep}-{wanted.row.number}-seed{seed}")
    config = override(wanted.config, {"run.seed": seed})
    train(store, config, wanted.features, name)
    metrics = files_of(store, model_folder(name)).read_json(METRICS)
    history = [EpochResult.read(epoch) for epoch in metrics["history"]]
    write_seed(store, wanted.sweep, wanted.row.number, seed, metrics["score"])
    own = seed == wanted.config.run.seed
    return SeedResult(
        seed=seed,
        model=name,
        score=metrics["score"],
        best_epoch=metrics["best_epoch"],
        same=same_curve(wanted.row.curve, history) if own else None,
    )


def same_curve(trial: Sequence[EpochResult], again: Sequence[EpochResult]) -> bool:
    """Whether the epochs of a trial, which may have been pruned, came out the same to the bit."""
    pairs = zip(trial, again, strict=False)
    return len(again) >= len(trial) and all(a.score == b.score for a, b in pairs)
