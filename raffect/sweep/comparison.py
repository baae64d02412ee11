"""Several sweeps side by side: how fast each got where, what each searched, and its best model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from raffect.settings import flatten
from raffect.store import Store
from raffect.sweep.attributes import FINISHED
from raffect.sweep.leaderboard import SweepView
from raffect.sweep.plan import read_plan
from raffect.sweep.ranges import narrowest, parse_range
from raffect.sweep.records import TrialRow

Kind = Literal["shared", "narrowed", "different", "partial"]
_MINUTE, _HOUR = 60, 3600
_MARKS_S = (
    1, 2, 5, 10, 20, 30,
    *(_MINUTE * n for n in (1, 2, 5, 10, 20, 30)),
    *(_HOUR * n * ten for ten in (1, 10, 100, 1000) for n in (1, 2, 5)),
)  # fmt: skip
"""Device seconds at which sweeps are compared."""
_MOST_MARKS = 7


@dataclass(frozen=True)
class Step:
    """A sweep's best score after so many of its own trials (failed ones too) and device seconds.

    Results taken over from other sweeps count for `best` only; None before there is a score.
    """

    trials: int
    device_seconds: float
    best: float | None


@dataclass(frozen=True)
class Marks:
    """Each sweep's best scores at the same cost, in trials or device seconds.

    None where a sweep has not come so far.
    """

    at: tuple[int, ...]
    best: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class Searched:
    """A parameter in the spaces of the sweeps.

    Attributes:
        kind: shared: the same range in all; narrowed: one's range lies in those of the others;
            different: no such one; partial: not all search it.
        ranges: For each sweep the range in Optuna's words; empty where the plan does not tell it,
            since the recipe does not meet it; None where it is not searched.
        narrowest: Index of the sweep whose range lies in the others'.
    """

    name: str
    kind: Kind
    ranges: tuple[str | None, ...]
    narrowest: int | None = None


@dataclass(frozen=True)
class Setting:
    """A setting of the best trials: each sweep's value, None too where there is no best trial."""

    key: str
    values: tuple[Any, ...]
    same: bool


@dataclass(frozen=True)
class Comparison:
    """Several sweeps side by side; what is by sweep has the order of `names`.

    Attributes:
        curves: Best so far of each, from before its first trial on.
        searched: All parameters, those that are not shared first.
        settings: Of the best trials: what differs, then what was searched and is the same.
        remarks: Why the scores may mean different things.
    """

    names: tuple[str, ...]
    curves: tuple[tuple[Step, ...], ...]
    by_trials: Marks
    by_cost: Marks
    searched: tuple[Searched, ...]
    settings: tuple[Setting, ...]
    remarks: tuple[str, ...]


def compare(
    views: Sequence[SweepView], sources: Sequence[Mapping[str, str]] | None = None
) -> Comparison:
    """Compare sweeps, with the digests of their sources (read_sources); reads nothing."""
    curves = tuple(curve(view) for view in views)
    most = max(steps[-1].trials for steps in curves)
    trials = [n * 10**power for power in range(len(str(most))) for n in (1, 2, 5)]
    return Comparison(
        names=tuple(view.name for view in views),
        curves=curves,
        by_trials=_marks(curves, trials, lambda step: step.trials),
        by_cost=_marks(curves, _MARKS_S, lambda step: step.device_seconds),
        searched=_searched(views),
        settings=_settings(views),
        remarks=tuple(_remarks(views, sources or [])),
    )


def read_sources(store: Store, sweep: str) -> dict[str, str]:
    """Digests of what a sweep was made from, by folder."""
    return read_plan(store, sweep).get("sources", {})


def curve(view: SweepView) -> tuple[Step, ...]:
    """The best score so far, trial by trial in the order in which they ended.

    A trial counts when it ended, with all of its time; what was taken over from other sweeps is
    known before the first one, and has cost nothing.
    """
    ended = [row for row in view.rows if row.state in FINISHED]
    ended.sort(key=lambda row: (row.finished or "", row.number))
    best = max((s for row in ended if row.origin and (s := _score(row)) is not None), default=None)
    steps = [Step(0, 0.0, best)]
    seconds = 0.0
    for row in ended:
        if row.origin is None:
            seconds += row.device_seconds
            scores = [score for score in (best, _score(row)) if score is not None]
            best = max(scores, default=None)
            steps.append(Step(len(steps), seconds, best))
    return tuple(steps)


def _score(row: TrialRow) -> float | None:
    return row.score if row.is_candidate else None


def _marks(
    curves: Sequence[tuple[Step, ...]], ladder: Sequence[int], cost: Callable[[Step], float]
) -> Marks:
    def best_at(steps: tuple[Step, ...], mark: int) -> float | None:
        reached = [step for step in steps if cost(step) <= mark]
        return reached[-1].best if mark <= cost(steps[-1]) else None

    most = max(cost(steps[-1]) for steps in curves)
    at = tuple(mark for mark in ladder if mark <= most)[-_MOST_MARKS:]
    return Marks(at, tuple(tuple(best_at(steps, mark) for mark in at) for steps in curves))


def _searched(views: Sequence[SweepView]) -> tuple[Searched, ...]:
    found = []
    tried = [{name for row in view.rows for name in row.params} for view in views]
    names = sorted({name for view in views for name in view.ranges}.union(*tried))
    for name in names:
        ranges = tuple(
            view.ranges.get(name, "" if name in own else None)
            for view, own in zip(views, tried, strict=True)
        )
        found.append(_overlap(name, ranges))
    order: list[Kind] = ["narrowed", "different", "partial", "shared"]
    return tuple(sorted(found, key=lambda of: (order.index(of.kind), of.name)))


def _overlap(name: str, ranges: tuple[str | None, ...]) -> Searched:
    if None in ranges:
        return Searched(name, "partial", ranges)
    if len(set(ranges)) == 1:
        return Searched(name, "shared", ranges)
    inner = narrowest([parse_range(text or "") for text in ranges])
    return Searched(name, "different" if inner is None else "narrowed", ranges, inner)


def _settings(views: Sequence[SweepView]) -> tuple[Setting, ...]:
    configs: list[dict[str, Any]] = [
        {**flatten(view.config), **view.best.params} if view.best is not None else {}
        for view in views
    ]
    known = [config for config in configs if config]
    searched = {name for view in views for row in view.rows for name in row.params}
    found = []
    for key in dict.fromkeys(key for config in known for key in config):
        values = [config.get(key) for config in known]
        same = all(value == values[0] for value in values)
        if key != "task" and (not same or key in searched):
            found.append(Setting(key, tuple(config.get(key) for config in configs), same))
    return tuple(sorted(found, key=lambda setting: (setting.same, setting.key)))


def _remarks(views: Sequence[SweepView], sources: Sequence[Mapping[str, str]]) -> list[str]:
    remarks = []
    tasks = list(dict.fromkeys(view.task.value for view in views))
    if len(tasks) > 1:
        remarks.append(f"Different tasks ({', '.join(tasks)}): scores do not compare.")
    keys = sorted({key for of in sources for key in of})
    different = [key for key in keys if len({of.get(key) for of in sources}) > 1]
    if different:
        remarks.append(f"Different data ({', '.join(different)}): scores may not compare.")
    budgets = list(dict.fromkeys(view.config["optimiser"]["epochs"] for view in views))
    if len(budgets) > 1:
        of = ", ".join(map(str, budgets))
        remarks.append(
            f"Different budgets ({of} epochs): the longer trials have the better chances."
        )
    codes = [{maker.describe() for row in view.rows for maker in row.makers} for view in views]
    if len({*map(frozenset, codes)}) > 1:
        of = ", ".join(sorted(set().union(*codes)))
        remarks.append(f"Different code ({of}): scores differ by that, too.")
    if len({view.objectives for view in views}) > 1:
        remarks.append("Different objectives: only the score is compared.")
    return remarks
