"""A trial: what its process reports to the study, and the row that readers get back from it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC
from typing import Any, TypedDict, cast

from optuna.trial import FrozenTrial, TrialState

from raffect import __version__
from raffect.code import code_digest
from raffect.settings import build
from raffect.store import FileEntry, Files, Store, files_of
from raffect.store.layout import trial_folder
from raffect.sweep.attributes import (
    ACCUMULATION,
    DEVICES,
    EPOCH,
    FILES,
    LATENCY,
    MADE_BY,
    ORIGIN,
    PARAMETERS,
    POINT,
    REASON,
    RECIPE,
    SCORED,
    VARIANT,
    WORKERS,
    State,
)
from raffect.sweep.settings import Objective
from raffect.temporal.epochs import Curve, EpochResult

TOP = 5
"""Scores that are told by rank: a bounded number of labels, however long the sweep."""
_TUNE_KEY = "told"
WORN = "worn"
"""In a result of Tune: whether its process is to run no other trial."""


@dataclass(frozen=True)
class Maker:
    """What computes a trial, as far as its numbers depend on it.

    Attributes:
        raffect: Version; None for a trial of before 0.3, which did not record it.
        code: Digest of raffect's code, see `code_digest`; None likewise.
        workers: Processes that train the model together: dropout differs from one to the other.
    """

    raffect: str | None = None
    code: str | None = None
    workers: int = 1

    @classmethod
    def here(cls, workers: int) -> Maker:
        """This process, as one of so many."""
        return cls(__version__, code_digest("sweep"), workers)

    def describe(self) -> str:
        """Its code, for people."""
        if self.raffect is None or self.code is None:
            return "unknown code (before raffect 0.3)"
        return f"raffect {self.raffect} (code {self.code[:12]})"


@dataclass(frozen=True)
class TrialFacts:
    """What a trial's process knows beside its epochs; None where it is not known (yet).

    Names and units are the study's (attributes.py). `note` says what was done to save the trial,
    and `margins` are Limits.margins.
    """

    host: str | None = None
    device: str | None = None
    parameters: int | None = None
    latency_ms: float | None = None
    devices: float | None = None
    maker: Maker | None = None
    accumulation: int | None = None
    note: str | None = None
    files: tuple[FileEntry, ...] = ()
    margins: Mapping[str, float] = field(default_factory=dict)

    def attributes(self) -> dict[str, object]:
        """What is known, as attributes of the study; the margins are its constraints."""
        plain = ("host", "device", PARAMETERS, LATENCY, DEVICES, ACCUMULATION, "note")
        found = {name: getattr(self, name) for name in plain}
        found[WORKERS] = None if self.maker is None else self.maker.workers
        found[FILES] = [entry.canonical() for entry in self.files] or None
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class TrialReport:
    """What a trial's process tells after each epoch, and when it ends.

    Attributes:
        history: All of its epochs, also those that were told before.
        refusal: Which limit its model is beyond; it is then not trained.
    """

    history: tuple[EpochResult, ...] = ()
    facts: TrialFacts = TrialFacts()
    done: bool = False
    failure: str | None = None
    refusal: str | None = None

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        return self.history[-1].epoch if self.history else 0

    @property
    def score(self) -> float | None:
        """Its best score so far."""
        return max((epoch.score for epoch in self.history), default=None)

    @property
    def seconds(self) -> float:
        """Time of its epochs."""
        return sum(epoch.seconds for epoch in self.history)

    def to_tune(self) -> dict[str, object]:
        """As a result of Tune, which takes dictionaries apart and looks for `done` itself."""
        ended = self.done or self.failure is not None or self.refusal is not None
        return {_TUNE_KEY: self, "done": ended}

    @staticmethod
    def from_tune(result: Mapping[str, Any] | None) -> TrialReport | None:
        """What `to_tune` made; None for a result without it, e.g. of a lost process."""
        found: TrialReport | None = (result or {}).get(_TUNE_KEY)
        return found


class TrialJson(TypedDict):
    """A trial in `raffect trials SWEEP --json` and in the page's JSON."""

    number: int
    state: State
    score: float | None
    epochs: int
    seconds: float
    params: Mapping[str, object]
    reason: str | None
    model: str | None
    made_by: Sequence[Mapping[str, object]]
    raw: float | None


@dataclass(frozen=True)
class TrialRow:
    """One trial of a sweep, as the study records it.

    Attributes:
        score: Best validation score over its epochs so far; None if it failed.
        seconds: Time that its epochs took.
        params: Its parameters, by dotted key.
        model: `SWEEP:NUMBER` if it saved a model, of the sweep that trained it.
        best_epoch: Epoch of the score, from 1.
        attributes: What else is recorded: host, device, seed, config_hash, latency_ms, ...
        objectives: Value of each objective, once the trial has ended without failing.
        pareto: It is on the Pareto front of several objectives.
        devices: Number of devices it used; may be a fraction.
        violations: By how much it exceeds each limit; empty if it meets them.
        finished: When it ended, ISO 8601; None while it runs.
        seeds: Scores of its configuration under other seeds, by seed (`raffect retrain`).
        tied: Its score is within one standard deviation (over seeds) of the best.
    """

    number: int
    state: State
    score: float | None
    epochs: int
    seconds: float
    params: Mapping[str, Any]
    reason: str | None
    model: str | None
    best_epoch: int | None
    curve: Sequence[EpochResult]
    parameters: int | None
    attributes: Mapping[str, Any]
    objectives: Mapping[str, float] = field(default_factory=dict)
    pareto: bool = False
    devices: float = 1.0
    origin: str | None = None
    violations: Mapping[str, float] = field(default_factory=dict)
    finished: str | None = None
    seeds: Mapping[int, float] = field(default_factory=dict)
    tied: bool = False
    files: Sequence[Mapping[str, Any]] = ()

    @property
    def device_seconds(self) -> float:
        """Time of its epochs, times the devices that it took; 0 if another sweep paid for it."""
        return 0.0 if self.origin else self.seconds * self.devices

    @property
    def is_candidate(self) -> bool:
        """Whether it may be the best, run here or taken over: a score, a model, no violation."""
        has_score = self.score is not None and math.isfinite(self.score)
        return self.model is not None and has_score and not self.violations

    @property
    def makers(self) -> tuple[Maker, ...]:
        """What computed its epochs, the first first; none before its first one."""
        known = self.attributes.get(MADE_BY) or [{"workers": self.attributes.get(WORKERS, 1)}]
        return tuple(Maker(**one) for one in known) if self.epochs else ()

    @property
    def recipe(self) -> bool:
        """Whether it has the base settings, by default the published recipe."""
        return bool(self.attributes.get(RECIPE))

    @property
    def raw(self) -> float | None:
        """Its score before post-processing; where there is none, the score."""
        raw = [epoch.raw for epoch in self.curve if epoch.epoch == self.best_epoch]
        return raw[0] if raw and raw[0] is not None and self.score is not None else self.score

    @property
    def full_score(self) -> float | None:
        """Its score after its full budget: its own, or where it was pruned `raffect retrain`'s."""
        if self.state == "COMPLETE":
            return self.score
        return self.seeds.get(self.attributes.get("seed", -1)) if self.model else None

    @property
    def latency_ms(self) -> float | None:
        """Of its model, per 1,000 frames; only complete trials are measured without a limit."""
        found: float | None = self.attributes.get(LATENCY, self.objectives.get("latency"))
        return found

    @property
    def batch_parts(self) -> int | None:
        """Parts in which it took its batches, since it was out of memory."""
        found: int | None = self.attributes.get(ACCUMULATION)
        return found

    def to_json(self) -> TrialJson:
        """As in `raffect trials SWEEP --json`."""
        return {
            "number": self.number,
            "state": self.state,
            "score": self.score,
            "epochs": self.epochs,
            "seconds": self.seconds,
            "params": self.params,
            "reason": self.reason,
            "model": self.model,
            "made_by": [asdict(maker) for maker in self.makers],
            "raw": self.raw,
        }


def model_folder_of(row: TrialRow) -> str:
    """The folder of a trial's model; that of the sweep that trained it."""
    assert row.model is not None
    sweep, _, number = row.model.rpartition(":")
    return trial_folder(sweep, int(number))


def model_files(store: Store, row: TrialRow) -> Files:
    """The files of a trial's model, as the study or the sweep's manifest says they are.

    Trials of before 0.3 have them in neither.
    """
    folder = model_folder_of(row)
    entries = [build(FileEntry, entry) for entry in row.files]
    if not entries:
        return files_of(store, folder)
    return Files(store, folder, {entry.name.rpartition("/")[2]: entry for entry in entries})


def read_row(
    sweep: str,
    trial: FrozenTrial,
    objectives: Sequence[Objective] = ("score",),
    seeds: Mapping[int, float] | None = None,
    pareto: bool = False,
) -> TrialRow:
    """A trial of the study as a row."""
    state = cast(State, trial.state.name)
    attributes = dict(trial.user_attrs)
    epochs = sorted([key for key in attributes if key.startswith(EPOCH)])
    curve = Curve([attributes.pop(key) for key in epochs])
    origin = attributes.pop(ORIGIN, None)
    best = curve.best
    has_score = state in SCORED and best is not None
    ended = trial.datetime_complete
    values = trial.values if state in SCORED and trial.values else ()
    params = trial.params
    if trial.state is TrialState.WAITING:
        params = trial.system_attrs.get("fixed_params", {})
    if (variant := attributes.get(VARIANT)) is not None:
        params = {"variant": variant["name"], "seed": variant["seed"]}
    return TrialRow(
        number=trial.number,
        state=state,
        score=best[1] if best and state != "FAIL" else None,
        epochs=len(curve),
        seconds=curve.seconds,
        params=params,
        reason=attributes.pop(REASON, None),
        model=(origin or f"{sweep}:{trial.number}") if has_score else None,
        best_epoch=best[0] if best else None,
        curve=curve,
        parameters=attributes.pop(PARAMETERS, None),
        objectives=dict(zip(objectives, values, strict=True)) if values else {},
        pareto=pareto,
        devices=float(attributes.pop(DEVICES, 1.0)),
        origin=origin,
        violations={name: v for name, v in trial.constraints.items() if v > 0},
        # Optuna's times are local and naive.
        finished=ended.astimezone(UTC).isoformat(timespec="seconds") if ended else None,
        seeds=seeds or {},
        files=attributes.pop(FILES, ()),
        attributes=attributes,
    )


def is_compared_with(attributes: Mapping[str, Any]) -> bool:
    """Whether tables compare other trials with this one: then it is never pruned.

    That are the recipe and the space's own known-good points. A configuration of another sweep
    is tried as any other: it has its full score there.
    """
    point = attributes.get(POINT)
    known_good = point is not None and not re.fullmatch(r".+:\d+", point)
    return bool(attributes.get(RECIPE)) or known_good


def rank(row: TrialRow) -> tuple[int, float, int]:
    """Key by which rows are sorted: those with a final score, the best first, then the rest."""
    if row.model is None or row.score is None or math.isnan(row.score):
        return 2, 0.0, row.number
    return int(bool(row.violations)), -row.score, row.number


def best_of(rows: Iterable[TrialRow]) -> TrialRow | None:
    """The best trial of a sweep; None as long as no trial left a model within the limits."""
    first = min(rows, key=rank, default=None)
    return first if first is not None and first.is_candidate else None
