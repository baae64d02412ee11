"""What a sweep has found, read from its study; works while it runs and after it was killed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import stdev
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from optuna import Study
from optuna.trial import FrozenTrial

from raffect.affwild2.evaluation import RESAMPLES
from raffect.affwild2.tasks import Task
from raffect.errors import NotThereError
from raffect.store import Manifest, Store, sweep_folder
from raffect.store.layout import STUDY, SWEEPS
from raffect.store.manifest import find_manifest
from raffect.store.verified import damaged
from raffect.sweep.attributes import BASELINE, ENDED, LINEAR_FLOOR, SEEN, SPACE, SPENT, TARGET
from raffect.sweep.evidence import Evidence, Judged
from raffect.sweep.journal import uncollected
from raffect.sweep.mixture import mixture
from raffect.sweep.paired import Paired
from raffect.sweep.plan import plan_of, read_plan
from raffect.sweep.records import TOP, TrialJson, TrialRow, best_of, read_row
from raffect.sweep.seeds import read_seeds
from raffect.sweep.settings import Objective
from raffect.sweep.study import journal_of, open_study
from raffect.sweep.tally import Tally
from raffect.temporal.seen import Seen, describe_seen

if TYPE_CHECKING:
    import pandas as pd

BEST = "best"
"""In the place of a trial's number: the best one."""


SweepKind = Literal["search", "ablation"]


class Baseline(TypedDict):
    """Score of the trivial prediction, and what it is the mean of."""

    score: float
    parts: Mapping[str, float]


class LinearFloor(Baseline):
    """Those of ridge regression on means of the features over `half_width` frames on each side."""

    half_width: int


class DifferenceJson(TypedDict):
    """A score less another one, with its interval."""

    difference: float
    interval: Sequence[float]


class JudgedTrialJson(TrialJson):
    """A trial in `raffect trials SWEEP --json`, with what is None where it kept no sums."""

    interval: Sequence[float] | None
    versus_recipe: DifferenceJson | None
    versus_best: DifferenceJson | None
    probability_best: float | None


class SweepJson(TypedDict):
    """A sweep in `raffect trials --json` and in the page's JSON."""

    name: str
    task: str
    trials: Mapping[str, int]
    target: int
    best: float | None
    expected: float | None
    recipe: float | None
    seen_videos: int
    linear_floor: float | None
    device_hours: float
    changed: str | None
    kind: SweepKind


@dataclass(frozen=True)
class SweepView:
    """A sweep as it is now: its trials, best first, and what their scores mean.

    Attributes:
        store: The store that its evidence is read from.
        rows: Trials, best first: those with a final score, then the rest by number.
        config: The base configuration, as JSON.
        counts: Number of trials by state, without those taken over from other sweeps.
        target: Number of trials requested, likewise.
        manifest: None until all trials have ended.
        objectives: What is optimised; the score comes first.
        settings: Its other fixed settings: sampler, pruning, seed, constraints.
        ranges: The searched range of each parameter, as text.
        hours: Wall-clock hours, over all runs of the command.
        device_hours: Device time of its trials' epochs.
        changed: When a trial last ended, ISO 8601; None if none has.
        ended: Why it ended early, if it did.
        space: Its search space, as it was given; None if unknown.
        seen: Validation videos that the encoder was fine-tuned on.
        linear_floor: Score of ridge regression on the features; None until it is known.
        kind: A search, or an ablation, whose trials are variants of its base.
    """

    name: str
    task: Task
    rows: list[TrialRow]
    config: Mapping[str, Any]
    counts: Mapping[str, int]
    target: int
    baseline: Baseline
    manifest: Manifest | None
    objectives: tuple[Objective, ...] = ("score",)
    settings: Mapping[str, Any] = field(default_factory=dict)
    ranges: Mapping[str, str] = field(default_factory=dict)
    hours: float = 0.0
    device_hours: float = 0.0
    changed: str | None = None
    ended: str | None = None
    space: str | None = None
    linear_floor: LinearFloor | None = None
    kind: SweepKind = "search"
    seen: Seen = field(default_factory=dict)
    store: Store | None = field(default=None, repr=False, compare=False)
    judged: Judged = field(default_factory=Judged, repr=False, compare=False)
    known: Tally | None = field(default=None, repr=False, compare=False)

    @cached_property
    def tally(self) -> Tally:
        """What its trials come to."""
        return self.known or Tally.of(self.rows)

    @cached_property
    def evidence(self) -> Evidence:
        """How certain its scores are; the first access reads a small file per trial."""
        if self.store is None:
            return Evidence(missing="the trials' sums per video were not read")
        searched = self.kind == "search"
        return self.judged.read(self.store, self.task, self.rows, self.recipe, searched)

    def trials_json(self) -> list[JudgedTrialJson]:
        """As in `raffect trials SWEEP --json`, the best first."""
        return [self._judged(row) for row in self.rows]

    def to_dataframe(self) -> pd.DataFrame:
        """One row per trial, best first, indexed by number; parameters by dotted key."""
        import pandas as pd

        rows: list[dict[str, object]] = []
        for one, row in zip(self.trials_json(), self.rows, strict=True):
            known: dict[str, object] = dict(one)
            interval = one["interval"] or (None, None)
            versus = one["versus_recipe"]
            del known["params"], known["interval"], known["versus_recipe"], known["versus_best"]
            del known["made_by"]
            known |= {"low": interval[0], "high": interval[1], "best_epoch": row.best_epoch}
            known["versus_recipe"] = None if versus is None else versus["difference"]
            rows.append({**known, **one["params"]})
        return pd.DataFrame(rows).set_index("number") if rows else pd.DataFrame()

    def curves(self) -> pd.DataFrame:
        """One row per epoch: score, loss and seconds, indexed by trial and epoch."""
        import pandas as pd

        found = [
            (row.number, one.epoch, one.score, one.loss, one.seconds)
            for row in self.rows
            for one in row.curve
        ]
        columns = ["trial", "epoch", "score", "loss", "seconds"]
        return pd.DataFrame(found, columns=columns).set_index(["trial", "epoch"])

    def _judged(self, row: TrialRow) -> JudgedTrialJson:
        known = self.evidence.trials.get(row.number)

        def written(of: Paired | None) -> DifferenceJson | None:
            if of is None:
                return None
            return {"difference": of.difference, "interval": list(of.interval)}

        return {
            **row.to_json(),
            "interval": list(known.interval) if known else None,
            "versus_recipe": written(known.versus_recipe if known else None),
            "versus_best": written(known.versus_best if known else None),
            "probability_best": known.probability_best if known else None,
        }

    def to_json(self) -> SweepJson:
        """As in `raffect trials --json`."""
        return {
            "name": self.name,
            "task": self.task.value,
            "trials": self.counts,
            "target": self.target,
            "best": self.best.score if self.best else None,
            "expected": self.evidence.expected,
            "recipe": self.recipe.full_score if self.recipe else None,
            "seen_videos": max((seen for seen, _ in self.seen.values()), default=0),
            "linear_floor": self.linear_floor["score"] if self.linear_floor else None,
            "device_hours": self.device_hours,
            "changed": self.changed,
            "kind": self.kind,
        }

    @cached_property
    def best(self) -> TrialRow | None:
        """The best trial; None until a trial has saved a model within the limits."""
        return best_of(self.rows[:1])

    @cached_property
    def recipe(self) -> TrialRow | None:
        """The trial with the base settings; a complete one if there are several."""
        found = [*self.tally.recipes, *(row for row in self.tally.live if row.recipe)]
        return min(found, key=lambda row: (row.full_score is None, row.number), default=None)

    @property
    def against_recipe(self) -> str:
        """The best score against that of the whole recipe, or why they do not compare."""
        recipe, best = self.recipe, self.best
        if self.kind == "ablation":
            return "An ablation, not a search: which of its trials is best is chance."
        if recipe is None:
            return ""
        which, full = f"the recipe (trial {recipe.number})", recipe.full_score
        if full is not None and best is not None and best.score is not None:
            if best.number == recipe.number and recipe.state == "COMPLETE":
                return f"Best so far is {which}: {full:.4f}."
            gain = f"{best.score - full:+.4f}"
            return f"Best {best.score:.4f} against {full:.4f} of {which}: {gain}."
        budget = self.config["optimiser"]["epochs"]
        reason = (recipe.reason or "").rstrip(".")
        why = {
            "RUNNING": f"is at epoch {recipe.epochs} of {budget}",
            "WAITING": "has not begun",
            "FAIL": f"failed: {reason}",
            "PRUNED": f"was stopped at {recipe.epochs} of {budget} epochs; `raffect retrain "
            f"{self.name}:{recipe.number} --seeds 1` trains it in full",
        }
        if reason and recipe.state == "PRUNED":
            why["PRUNED"] = f"was refused: {reason}"
        return f"No comparison: {which} {why.get(recipe.state, 'has no score')}."

    @cached_property
    def cautions(self) -> list[str]:
        """What to know about how its scores were computed, in sentences."""
        fold = self.config.get("fold")
        held = [f"Validation is fold {fold}; all other videos are trained on."] if fold else []
        return (
            held
            + describe_seen(self.seen, fold)
            + self._describe_postprocess()
            + mixture(self.tally.makers)
        )

    def _describe_postprocess(self) -> list[str]:
        best = self.best
        if best is None or best.raw == best.score:
            return []
        return [
            "Scores are after post-processing, which was fitted on one half of the validation"
            f" videos and scored on the other; before it the best trial has {best.raw:.4f}."
        ]

    @property
    def expectation(self) -> str:
        """What its best score is worth, in a sentence, or why that is unknown."""
        best, evidence = self.best, self.evidence
        if best is None or best.score is None:
            return ""
        if evidence.missing:
            return f"No intervals: {evidence.missing}."
        known = evidence.trials[best.number]
        expected = evidence.expected
        note = "" if expected is None else f" ({expected:.4f} expected on new videos)"
        others = (evidence.trials[n].versus_best for n in sorted(evidence.trials))
        alike = sum(of is not None and not of.is_clear for of in others)
        more = (
            f"{alike} other {'trial is' if alike == 1 else 'trials are'} not clearly worse"
            if alike
            else "all others are clearly worse"
        )
        return (
            f"Best: {best.score:.4f}{note}; trial {best.number} is the best in "
            f"{known.probability_best:.0%} of {RESAMPLES:,} resamples of the {evidence.videos} "
            f"validation videos; {more}."
        )

    def is_below_floor(self, row: TrialRow) -> bool:
        """Whether a trial that ended is worse than ridge regression on the same features."""
        floor = self.linear_floor
        ended = row.model is not None and row.score is not None
        return floor is not None and ended and (row.score or 0.0) < floor["score"]

    @property
    def top(self) -> tuple[float, ...]:
        """The best scores by rank, at most TOP."""
        found = (row.score for row in self.rows if row.is_candidate)
        return tuple(score for score in found if score is not None)[:TOP]


class SweepReader:
    """Reads a sweep's leaderboard again and again: of the study, what was written since."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        self._forget()

    def _forget(self) -> None:
        self._journal = journal_of(self._store, self._name)
        self._study: Study | None = None
        self._tally = Tally()
        self._beside: object = None
        self._judged = Judged()

    @uncollected()
    def read(self) -> SweepView:
        """The sweep as it is now; errors as `load_sweep`."""
        store, name = self._store, self._name
        folder = sweep_folder(name)
        manifest = find_manifest(store, folder)
        # A finished sweep's manifest has its plan: a request less, for each sweep that is listed.
        plan = read_plan(store, name)["config"] if manifest is None else plan_of(manifest)
        try:
            study, trials = self._look()
        except NotThereError:
            # Whoever deletes a sweep takes its manifest first.
            if find_manifest(store, folder) is not None:
                raise damaged(store, f"{folder}/{STUDY}", "its entries are missing") from None
            raise
        attributes = study.user_attrs
        bound = plan.get("sweep", {})
        objectives: tuple[Objective, ...] = tuple(bound.get("objectives", ("score",)))
        front = {trial.number for trial in study.best_trials} if len(objectives) > 1 else set()
        seeds = read_seeds(store, name)
        if self._beside != (seeds, front):
            self._tally, self._beside = Tally(), (seeds, front)

        def row_of(trial: FrozenTrial) -> TrialRow:
            number = trial.number
            return read_row(name, trial, objectives, seeds.get(number, {}), number in front)

        tally = self._tally = self._tally.look(trials, row_of)
        return SweepView(
            name=name,
            task=Task(plan["task"]),
            rows=mark_ties(tally.rows),
            config=plan["base"],
            counts=dict(+tally.counts),
            target=attributes.get(TARGET, tally.counts.total()),
            baseline=attributes.get(BASELINE, {"score": 0.0, "parts": {}}),
            manifest=manifest,
            objectives=objectives,
            settings=bound,
            ranges=plan.get("space", {}).get("ranges", {}),
            hours=sum(attributes.get(SPENT, {}).values()) / 3600,
            device_hours=tally.nanoseconds / 3.6e12,
            ended=attributes.get(ENDED),
            space=attributes.get(SPACE),
            linear_floor=attributes.get(LINEAR_FLOOR),
            seen=attributes.get(SEEN, {}),
            changed=tally.changed,
            store=store,
            judged=self._judged,
            known=tally,
            kind="ablation" if "ablation" in plan else "search",
        )

    def _look(self) -> tuple[Study, list[FrozenTrial]]:
        if self._study is not None and self._journal.was_begun_anew():
            self._forget()
        self._journal.freeze()
        if self._study is None:
            self._study = open_study(self._store, self._name, self._journal)
        return self._study, self._study.get_trials(deepcopy=False)


def load_sweep(store: Store, name: str) -> SweepView:
    """A sweep's leaderboard.

    Raises:
        NotThereError: The store holds no such sweep.
        DamagedError: A file of it is not as it was written.
    """
    return SweepReader(store, name).read()


def mark_ties(rows: list[TrialRow]) -> list[TrialRow]:
    """Mark the trials whose score is within the spread of the best trial's over its seeds.

    That is the sample standard deviation; without several seeds no trial is marked.
    """
    best = best_of(rows[:1])
    if best is None or best.score is None or len(best.seeds) < 2:
        return rows
    least = best.score - stdev(best.seeds.values())
    return [
        replace(row, tied=True)
        if row.model is not None and row.score is not None and row.score >= least
        else row
        for row in rows
    ]


def list_sweeps(store: Store) -> list[SweepView]:
    """All sweeps of a store, by name."""
    views = []
    for name in store.names(SWEEPS):
        # A sweep may have been planned, and killed before its study had its first entry.
        with suppress(NotThereError):
            views.append(load_sweep(store, name))
    return views


def find_trial(store: Store, name: str) -> tuple[str, TrialRow]:
    """A trial with a model, as users name it: `SWEEP` or `SWEEP:best` for the best one, `SWEEP:7`.

    Each may have `sweeps/` before it. The sweep's name comes with the trial.

    Raises:
        NotThereError: There is no such sweep, or no model of that trial.
    """
    sweep, _, wanted = name.removeprefix(f"{SWEEPS}/").partition(":")
    view = load_sweep(store, sweep)
    rows = {row.number: row for row in view.rows if row.model is not None}
    chosen = view.best if wanted in ("", BEST) else None
    if wanted.isdigit():
        chosen = rows.get(int(wanted))
    if chosen is not None:
        return sweep, chosen
    numbers = ", ".join(map(str, sorted(rows))) or "none yet"
    outside = "; none is within the limits" if rows and view.best is None else ""
    raise NotThereError(
        f"The sweep {sweep!r} has no model of trial {wanted or BEST!r}.",
        f"trials with a model: {numbers}{outside}",
        f"See `raffect trials {sweep}`.",
    )
