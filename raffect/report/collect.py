"""The numbers of a sweep's report, from its leaderboard, its study and its lineage."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from raffect.affwild2.scan import says_synthetic
from raffect.affwild2.tasks import SPECS
from raffect.context import DEFAULT_FEATURES
from raffect.errors import NotThereError
from raffect.report.commands import next_commands
from raffect.report.data import (
    Ancestor,
    Axis,
    Cost,
    EndedTrial,
    Failure,
    Grid,
    ReportData,
    ScorePart,
    Slice,
    StateCost,
    Validation,
    best_so_far,
    scored,
)
from raffect.report.importance import Distributions, guess_distribution, importance
from raffect.report.validation import validate
from raffect.store import DATASET, Manifest, Store, read_manifest
from raffect.store.features import feature_names
from raffect.store.layout import GROUPS
from raffect.sweep.ablation_table import AblationRow, tabulate
from raffect.sweep.attributes import STATES
from raffect.sweep.failures import kind_of
from raffect.sweep.leaderboard import SweepView, load_sweep
from raffect.sweep.plan import read_plan
from raffect.sweep.records import TrialRow
from raffect.sweep.space import load_space
from raffect.sweep.study import open_study

_DEPTH_NAMES = ("tcn.depth", "tcn_depth")
_LAYERS_NAMES = ("transformer.layers", "transformer_layers")
_UNKNOWN = "unknown"
_NOT_VALIDATED = "The best model's predictions were not asked for."


def collect(store: Store, sweep: str) -> ReportData:
    """The numbers of one sweep's report; a NotThereError if the store holds no such sweep."""
    view = load_sweep(store, sweep)
    plan = read_plan(store, sweep)
    sources = plan.get("sources", {}) if view.manifest is None else view.manifest.sources
    code = plan["config"].get("space", {}).get("code")
    trials = open_study(store, sweep).get_trials(deepcopy=False)
    return assemble(
        view,
        store=store.uri,
        distributions={trial.number: trial.distributions for trial in trials},
        ancestors=_lineage(store, sources),
        synthetic=_is_synthetic(store),
        validation=validate(store, view),
        own_space=code not in (None, load_space(f"tune_spaces.{view.task.value}").code),
        features=feature_names(plan["config"].get("features", DEFAULT_FEATURES)),
        ablation=tabulate(store, view) if view.kind == "ablation" else (),
    )


def assemble(
    view: SweepView,
    store: str,
    distributions: Mapping[int, Distributions] | None = None,
    ancestors: tuple[Ancestor, ...] = (),
    synthetic: bool = False,
    validation: Validation | str = _NOT_VALIDATED,
    own_space: bool = False,
    features: Sequence[str] = (DEFAULT_FEATURES,),
    ablation: Sequence[AblationRow] = (),
) -> ReportData:
    """The numbers of a report from a leaderboard; reads nothing.

    `distributions`, by trial number, are guessed where missing; `validation` may say why it is
    unknown; `own_space`: the space is not the task's default, as that is now.
    """
    trials = tuple(sorted(view.rows, key=lambda row: row.number))
    searched = tuple(dict.fromkeys(name for trial in trials for name in trial.params))
    return ReportData(
        view=view,
        store=store,
        synthetic=synthetic,
        baseline=view.baseline["score"],
        reachable=None,
        trials=trials,
        best_so_far=best_so_far(trials),
        searched=searched,
        importance=importance(trials, distributions),
        grid=_grid(trials, searched),
        slices=_slices(trials, searched, distributions or {}),
        parts=_parts(view),
        failures=failures(trials),
        lineage=ancestors,
        commands=next_commands(view, store, features, own_space),
        cost=cost_of(view.rows, view.config["optimiser"]["epochs"], view.hours),
        by_end=by_end(view.rows),
        validation=validation if isinstance(validation, Validation) else None,
        not_validated=validation if isinstance(validation, str) else "",
        ablation=tuple(ablation),
    )


def _grid(trials: Sequence[TrialRow], searched: Sequence[str]) -> Grid | None:
    """Best score of each TCN depth and number of Transformer layers; None if either is fixed."""
    x_name, y_name = (
        next((name for name in searched if name.lower().endswith(endings)), None)
        for endings in (_DEPTH_NAMES, _LAYERS_NAMES)
    )
    if x_name is None or y_name is None:
        return None
    cells: dict[tuple[int, int], list[float]] = {}
    for trial, score in scored(trials):
        x, y = trial.params.get(x_name), trial.params.get(y_name)
        if isinstance(x, int) and isinstance(y, int):
            cells.setdefault((x, y), []).append(score)
    if len(cells) < 2:
        return None
    xs, ys = sorted({x for x, _ in cells}), sorted({y for _, y in cells})
    return Grid(
        x_name=x_name,
        y_name=y_name,
        x_values=tuple(xs),
        y_values=tuple(ys),
        scores=tuple(tuple(max(cells.get((x, y), []), default=None) for x in xs) for y in ys),
        counts=tuple(tuple(len(cells.get((x, y), [])) for x in xs) for y in ys),
    )


def _slices(
    trials: Sequence[TrialRow], searched: Sequence[str], distributions: Mapping[int, Distributions]
) -> tuple[Slice, ...]:
    """Scores against each parameter that had more than one value in the scored trials."""
    found = []
    for name in searched:
        own = tuple(trial for trial, _ in scored(trials) if name in trial.params)
        values = [trial.params[name] for trial in own]
        if len({repr(value) for value in values}) > 1:
            known = next((of[name] for of in distributions.values() if name in of), None)
            found.append(Slice(name, axis_of(values, known), own))
    return tuple(found)


def axis_of(values: list[Any], distribution: BaseDistribution | None = None) -> Axis:
    """How an axis shows these values; without a distribution it is guessed."""
    known = distribution or guess_distribution(values)
    if isinstance(known, CategoricalDistribution):
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        return "number" if numbers else "category"
    return "log" if getattr(known, "log", False) else "number"


def _parts(view: SweepView) -> tuple[ScorePart, ...]:
    """Parts of the best trial's best epoch, in the order of the task's columns."""
    if view.best is None:
        return ()
    parts = next(e.parts for e in view.best.curve if e.epoch == view.best.best_epoch)
    columns = [name for name in SPECS[view.task].columns if name in parts]
    floors = view.baseline["parts"]
    linear = view.linear_floor["parts"] if view.linear_floor else {}
    return tuple(
        ScorePart(name, parts[name], floors.get(name), linear.get(name))
        for name in [*columns, *sorted(set(parts) - set(columns))]
    )


def failures(trials: Sequence[TrialRow]) -> tuple[Failure, ...]:
    """Failed and refused trials by the kind of their reason, the most frequent first."""
    failed: dict[str, list[TrialRow]] = {}
    for trial in trials:
        if trial.state == "FAIL" or (trial.reason and trial.score is None):
            failed.setdefault(kind_of(trial.reason or _UNKNOWN), []).append(trial)
    return tuple(
        Failure(
            kind,
            (of[0].reason or _UNKNOWN).removeprefix(kind).lstrip(": "),
            tuple(trial.number for trial in of),
        )
        for kind, of in sorted(failed.items(), key=lambda item: (-len(item[1]), item[0]))
    )


def cost_of(rows: Sequence[TrialRow], budget: int, hours: float) -> Cost:
    """The cost of a sweep; `budget` and `hours` as in Cost."""
    own = [row for row in rows if row.origin is None]
    pruned = [row for row in own if row.state == "PRUNED" and 0 < row.epochs < budget]
    by_state = {state: [row for row in own if row.state == state] for state in STATES}
    return Cost(
        states=tuple(
            StateCost(
                state=state,
                trials=len(of),
                epochs=sum(row.epochs for row in of),
                seconds=sum(row.seconds for row in of),
                device_seconds=sum(row.device_seconds for row in of),
            )
            for state, of in by_state.items()
            if of
        ),
        hours=hours,
        budget=budget,
        saved_epochs=sum(budget - row.epochs for row in pruned),
        saved_device_seconds=sum(
            (budget - row.epochs) * row.device_seconds / row.epochs for row in pruned
        ),
        taken_over=len(rows) - len(own),
    )


def by_end(rows: Sequence[TrialRow]) -> tuple[EndedTrial, ...]:
    """The ended trials in the order in which they ended, those taken over first.

    A failed trial's time counts, and its score does not.
    """
    ended = [row for row in rows if row.finished is not None]
    ended.sort(key=lambda row: (row.origin is None, row.finished, row.number))
    best = best_so_far(ended)
    totals = accumulate(row.device_seconds for row in ended)
    return tuple(
        EndedTrial(row.number, row.state, row.score, total, best.get(row.number))
        for row, total in zip(ended, totals, strict=True)
    )


def _lineage(store: Store, sources: Mapping[str, str]) -> tuple[Ancestor, ...]:
    """All ancestors, the dataset first; each says whether the store still holds the same.

    `sources` are the folders that the sweep was made from, with the digests of their manifests.
    """
    found: dict[str, Ancestor] = {}
    waiting = deque(sources.items())
    while waiting:
        folder, digest = waiting.popleft()
        if folder in found:
            continue
        manifest = _manifest(store, folder)
        if manifest is None:
            found[folder] = Ancestor(folder, digest, "", "gone")
            continue
        same = manifest.digest() == digest
        created = manifest.created if same else ""
        found[folder] = Ancestor(folder, digest, created, "same" if same else "changed")
        waiting += manifest.sources.items()

    def place(ancestor: Ancestor) -> tuple[int, str]:
        group = ancestor.folder.split("/")[0]
        return (GROUPS.index(group) if group in GROUPS else len(GROUPS), ancestor.folder)

    return tuple(sorted(found.values(), key=place))


def _is_synthetic(store: Store) -> bool:
    """Whether the store's dataset says that it is synthetic."""
    manifest = _manifest(store, DATASET)
    return manifest is not None and says_synthetic(manifest)


def _manifest(store: Store, folder: str) -> Manifest | None:
    try:
        return read_manifest(store, folder)
    except NotThereError:
        return None
