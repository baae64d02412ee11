"""The numbers of a sweep's report, from its leaderboard, its study and its lineage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from optuna.distributions import BaseDistribution, CategoricalDistribution

from raffect.affwild2.tasks import SPECS, Task
from raffect.errors import NotThereError
from raffect.report.commands import next_commands
from raffect.report.data import (
    Ancestor,
    Axis,
    Cost,
    Failure,
    Grid,
    Judged,
    Part,
    ReportData,
    Slice,
    Spent,
    StateCost,
    Trial,
    finite,
    scored,
    trials_of,
)
from raffect.report.importance import Distributions, guess_distribution, importance
from raffect.store import DATASET, Manifest, Store, read_manifest, sweep_folder
from raffect.store.layout import GROUPS, PLAN
from raffect.sweep.attributes import STATES
from raffect.sweep.failures import kind_of
from raffect.sweep.leaderboard import SweepView, load_sweep
from raffect.sweep.records import TrialRow
from raffect.sweep.space import load_space
from raffect.sweep.study import open_study

DEPTH_NAMES = ("tcn.depth", "tcn_depth")
LAYERS_NAMES = ("transformer.layers", "transformer_layers")
UNKNOWN = "unknown"
NOT_JUDGED = "The best model's predictions were not asked for."


def collect(store: Store, sweep: str) -> ReportData:
    """The numbers of one sweep's report.

    Raises:
        NotThereError: The store holds no such sweep.
        StoreError: The store can't be read.
    """
    # Torch takes seconds to load, and whoever assembles numbers needs none of it.
    from raffect.report.validation import judge

    view = load_sweep(store, sweep)
    ancestors = lineage(store, sources_of(store, view.name, view.manifest))
    return assemble(
        view,
        store=store.uri,
        distributions=_distributions(store, sweep),
        ancestors=ancestors,
        synthetic=is_synthetic(store),
        judged=judge(store, view),
        own_space=has_own_space(store, view),
    )


def assemble(
    view: SweepView,
    store: str,
    distributions: Mapping[int, Distributions] | None = None,
    ancestors: tuple[Ancestor, ...] = (),
    synthetic: bool = False,
    judged: Judged | str = NOT_JUDGED,
    own_space: bool = False,
) -> ReportData:
    """The numbers of a report from a leaderboard; reads nothing.

    Args:
        view: The leaderboard.
        store: URI of the store, for the commands.
        distributions: The study's distributions by trial number; guessed where missing.
        ancestors: What the sweep was made from.
        synthetic: The dataset is a synthetic one.
        judged: What the best model predicts, or why that is unknown.
        own_space: The space is not the task's default.
    """
    trials = trials_of(view.rows)
    best = view.best.number if view.best else None
    searched = tuple(dict.fromkeys(name for trial in trials for name in trial.params))
    return ReportData(
        name=view.name,
        task=view.task,
        store=store,
        synthetic=synthetic,
        finished=view.manifest is not None,
        target=view.target,
        baseline=finite(view.baseline.get("score")),
        reachable=None,
        trials=trials,
        ranking=tuple(row.number for row in view.rows),
        best=best,
        searched=searched,
        importance=importance(trials, distributions),
        grid=grid(trials, searched),
        slices=slices_of(trials, searched, distributions or {}),
        parts=_parts(view, best),
        failures=failures(trials),
        lineage=ancestors,
        commands=next_commands(view, store, best, features_of(ancestors), own_space),
        cost=cost_of(view.rows, view.config["optimiser"]["epochs"], view.hours),
        objectives=tuple(view.objectives),
        spent=spent_of(view.rows),
        judged=judged if isinstance(judged, Judged) else None,
        unjudged=judged if isinstance(judged, str) else "",
        ended=view.ended,
    )


def grid(trials: tuple[Trial, ...], searched: Sequence[str]) -> Grid | None:
    """Best score of each TCN depth and number of Transformer layers; None if either is fixed."""
    x_name = _named(searched, DEPTH_NAMES)
    y_name = _named(searched, LAYERS_NAMES)
    if x_name is None or y_name is None:
        return None
    cells: dict[tuple[int, int], list[float]] = {}
    for trial, score in scored(trials):
        x, y = trial.params.get(x_name), trial.params.get(y_name)
        if isinstance(x, int) and isinstance(y, int):
            cells.setdefault((x, y), []).append(score)
    xs, ys = sorted({x for x, _ in cells}), sorted({y for _, y in cells})
    if len(cells) < 2:
        return None
    return Grid(
        x_name=x_name,
        y_name=y_name,
        x_values=tuple(xs),
        y_values=tuple(ys),
        scores=tuple(tuple(max(cells.get((x, y), []), default=None) for x in xs) for y in ys),
        counts=tuple(tuple(len(cells.get((x, y), [])) for x in xs) for y in ys),
    )


def _named(searched: Sequence[str], endings: tuple[str, ...]) -> str | None:
    return next((name for name in searched if name.lower().endswith(endings)), None)


def slices_of(
    trials: tuple[Trial, ...],
    searched: Sequence[str],
    distributions: Mapping[int, Distributions],
) -> tuple[Slice, ...]:
    """Scores against each parameter that had more than one value in the scored trials."""
    found = []
    for name in searched:
        points = [(t, score) for t, score in scored(trials) if name in t.params]
        values = [t.params[name] for t, _ in points]
        if len({repr(value) for value in values}) < 2:
            continue
        own = next((of[name] for of in distributions.values() if name in of), None)
        found.append(
            Slice(
                name=name,
                axis=axis_of(values, own),
                values=tuple(values),
                scores=tuple(score for _, score in points),
                states=tuple(t.state for t, _ in points),
                numbers=tuple(t.number for t, _ in points),
            )
        )
    return tuple(found)


def axis_of(values: list[Any], distribution: BaseDistribution | None = None) -> Axis:
    """How an axis shows these values; without a distribution it is guessed."""
    known = distribution or guess_distribution(values)
    if isinstance(known, CategoricalDistribution):
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        return "number" if numbers else "category"
    return "log" if getattr(known, "log", False) else "number"


def _parts(view: SweepView, best: int | None) -> tuple[Part, ...]:
    """Parts of the best trial's best epoch, in the order of the task's columns."""
    row = next((row for row in view.rows if row.number == best), None)
    if row is None:
        return ()
    parts = next((epoch.parts for epoch in row.curve if epoch.epoch == row.best_epoch), {})
    found = {name: finite(value) for name, value in parts.items()}
    floor = view.baseline.get("parts") or {}
    order = _order(view.task, found)
    return tuple(
        Part(name, value, finite(floor.get(name)))
        for name in order
        if (value := found[name]) is not None
    )


def _order(task: Task, found: Mapping[str, Any]) -> list[str]:
    known = [name for name in SPECS[task].columns if name in found]
    return known + sorted(set(found) - set(known))


def failures(trials: tuple[Trial, ...]) -> tuple[Failure, ...]:
    """Failed and refused trials by the kind of their reason, the most frequent first."""
    failed: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.state == "FAIL" or (trial.reason and trial.score is None):
            failed.setdefault(kind_of(trial.reason or UNKNOWN), []).append(trial)
    found = sorted(failed.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(
        Failure(
            kind,
            (of[0].reason or UNKNOWN).removeprefix(kind).lstrip(": "),
            tuple(t.number for t in of),
        )
        for kind, of in found
    )


def _distributions(store: Store, sweep: str) -> dict[int, Distributions]:
    """The study's own distributions by trial number."""
    trials = open_study(store, sweep).get_trials(deepcopy=False)
    return {trial.number: trial.distributions for trial in trials}


def cost_of(rows: Sequence[TrialRow], budget: int, hours: float) -> Cost:
    """The cost of a sweep.

    Args:
        rows: Its trials.
        budget: Epochs of a full trial.
        hours: Of all runs of the command together.
    """
    own = [row for row in rows if row.origin is None]
    pruned = [row for row in own if row.state == "PRUNED" and 0 < row.epochs < budget]
    return Cost(
        states=tuple(
            _of_state(state, [row for row in own if row.state == state])
            for state in STATES
            if any(row.state == state for row in own)
        ),
        hours=hours,
        budget=budget,
        saved_epochs=sum(budget - row.epochs for row in pruned),
        saved_device_seconds=sum(
            (budget - row.epochs) * row.device_seconds / row.epochs for row in pruned
        ),
        taken_over=len(rows) - len(own),
    )


def _of_state(state: str, rows: list[TrialRow]) -> StateCost:
    return StateCost(
        state=state,
        trials=len(rows),
        epochs=sum(row.epochs for row in rows),
        seconds=sum(row.seconds for row in rows),
        device_seconds=sum(row.device_seconds for row in rows),
    )


def spent_of(rows: Sequence[TrialRow]) -> tuple[Spent, ...]:
    """The ended trials in the order in which they ended, those taken over first.

    A failed trial's time counts, and its score does not.
    """
    ended = [row for row in rows if row.finished is not None]
    ended.sort(key=lambda row: (row.origin is None, row.finished, row.number))
    found: list[Spent] = []
    total, best = 0.0, None
    for row in ended:
        total += row.device_seconds
        score = finite(row.score)
        if row.is_candidate and score is not None:
            best = score if best is None else max(best, score)
        found.append(Spent(row.number, row.state, score, total, best))
    return tuple(found)


def sources_of(store: Store, sweep: str, manifest: Manifest | None) -> dict[str, str]:
    """Folders that a sweep was made from, with their digests; also of one still running."""
    if manifest is not None:
        return dict(manifest.sources)
    return dict(_plan(store, sweep).get("sources") or {})


def has_own_space(store: Store, view: SweepView) -> bool:
    """Whether a sweep's space is another than its task's default, as that is now."""
    described = _plan(store, view.name).get("config", {}).get("space", {})
    usual = load_space(f"tune_spaces.{view.task.value}")
    return described.get("code") not in (None, usual.code)


def features_of(ancestors: Sequence[Ancestor]) -> str:
    """Name of the features that a sweep was made from; those of the default if unknown."""
    names = [of.folder.partition("/") for of in ancestors]
    return next((name for group, _, name in names if group == "features"), "clip")


def _plan(store: Store, sweep: str) -> dict[str, Any]:
    try:
        plan: dict[str, Any] = store.read_json(f"{sweep_folder(sweep)}/{PLAN}")
    except (FileNotFoundError, ValueError):
        return {}
    return plan


def lineage(store: Store, sources: dict[str, str]) -> tuple[Ancestor, ...]:
    """All ancestors, the dataset first; each says whether the store still holds the same."""
    found: dict[str, Ancestor] = {}
    waiting = list(sources.items())
    while waiting:
        folder, digest = waiting.pop(0)
        if folder in found:
            continue
        manifest = _manifest(store, folder)
        state: Literal["same", "changed", "gone"] = "gone"
        if manifest is not None:
            state = "same" if manifest.digest() == digest else "changed"
            waiting += manifest.sources.items()
        created = manifest.created if manifest is not None and state == "same" else ""
        found[folder] = Ancestor(folder, digest, created, state)
    return tuple(sorted(found.values(), key=lambda ancestor: _rank(ancestor.folder)))


def is_synthetic(store: Store) -> bool:
    """Whether the store's dataset says that it is synthetic."""
    manifest = _manifest(store, DATASET)
    if manifest is None:
        return False
    return any(bool(place.get("synthetic")) for place in (manifest.notes, manifest.counts))


def _manifest(store: Store, folder: str) -> Manifest | None:
    try:
        return read_manifest(store, folder)
    except NotThereError:
        return None


def _rank(folder: str) -> tuple[int, str]:
    group = folder.split("/")[0]
    return (GROUPS.index(group) if group in GROUPS else len(GROUPS), folder)
