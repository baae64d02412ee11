"""The words and figures of one sweep's sections, ready for the template."""

from __future__ import annotations

from dataclasses import dataclass

from raffect.affwild2.tasks import SPECS, Task
from raffect.report import figures, parameters
from raffect.report.data import SCORED, ReportData, Trial
from raffect.report.naming import short_names
from raffect.report.style import STATE_NAMES, Figure

TITLES = {Task.VA: "Valence and arousal", Task.EXPR: "Expressions", Task.AU: "Action units"}
_PARTS = {
    Task.VA: "concordance correlation coefficient",
    Task.EXPR: "F1 of each expression",
    Task.AU: "F1 of each action unit",
}
_BASELINES = {
    Task.VA: "always the mean of the training labels",
    Task.EXPR: "always the most frequent expression",
    Task.AU: "always all units active",
}
TOP = 10
HONEST = (
    "The score is that of each trial's best epoch on the validation set. Epochs, trials and this "
    "ranking were all chosen on that same set, so expect less on videos that no choice has seen."
)


@dataclass(frozen=True)
class SweepText:
    """What the template of one sweep shows beside the numbers.

    Attributes:
        figures: Plotly figures by key; absent where there is nothing to draw.
        missing: Why a figure is absent.
        slices: Parameter and the key of its figure.
        facts: Label, short text and full text of the header's facts.
    """

    id: str
    data: ReportData
    title: str
    names: dict[str, str]
    figures: dict[str, Figure]
    missing: dict[str, str]
    slices: list[tuple[str, str]]
    facts: list[tuple[str, str, str]]

    @property
    def best(self) -> Trial | None:
        """The best trial."""
        return self.data.best_trial

    @property
    def score(self) -> float | None:
        """Score of the best trial."""
        return self.best.score if self.best else None

    @property
    def score_name(self) -> str:
        """What the challenge's score is called."""
        return SPECS[self.data.task].score_name

    @property
    def has_baseline(self) -> bool:
        """Whether the trivial baseline is known."""
        return self.data.baseline is not None

    @property
    def has_reachable(self) -> bool:
        """Whether the best reachable score is known."""
        return self.data.reachable is not None

    @property
    def gained(self) -> str:
        """Share of the way from the baseline to the best reachable score."""
        return "–" if self.data.gained is None else f"{self.data.gained:.0%}"

    @property
    def recipe_note(self) -> str:
        """Where the trial with the recipe's settings stands; empty without a score."""
        trial = self.data.recipe_trial
        if trial is None or trial.score is None or trial.state not in SCORED:
            return ""
        rank = self.data.ranking.index(trial.number) + 1
        return f"trial {trial.number}, the settings that the sweep began with; rank {rank}"

    @property
    def baseline_note(self) -> str:
        """What the trivial prediction is."""
        return _BASELINES[self.data.task] if self.has_baseline else "not recorded"

    @property
    def honest(self) -> str:
        """What the score is, and is not."""
        return HONEST

    @property
    def counts(self) -> str:
        """Number of trials in each state."""
        return ", ".join(f"{n} {STATE_NAMES[state]}" for state, n in self.data.counts.items())

    @property
    def unfinished(self) -> str:
        """A note on a sweep that has not ended."""
        if self.data.finished:
            return ""
        ended = sum(trial.state in (*SCORED, "FAIL") for trial in self.data.trials)
        return (
            f"This sweep has not ended: {ended} of {self.data.target} trials have. It is running, "
            "or was interrupted; the same command given again continues it."
        )

    @property
    def top(self) -> tuple[Trial, ...]:
        """The trials of the leaderboard."""
        return self.data.ranked[:TOP]

    @property
    def rest(self) -> tuple[Trial, ...]:
        """The trials below the leaderboard."""
        return self.data.ranked[TOP:]

    @property
    def importance_caption(self) -> str:
        """What the importance says, and of how many trials."""
        found = self.data.importance
        if found.missing:
            return "PED-ANOVA importance of the searched parameters."
        return (
            f"PED-ANOVA: how much each parameter tells the best {found.target} of the "
            f"{found.trials} scored trials from all of them. "
            + ("A first indication only." if found.trials < 30 else "")
        ).strip()

    @property
    def parts_title(self) -> str:
        """Title of the parts' figure."""
        return f"What the best score is made of: {_PARTS[self.data.task]}"

    @property
    def parts_caption(self) -> str:
        """Whose parts they are."""
        if self.best is None:
            return "Parts of the best trial's score."
        epoch = self.best.best_epoch
        return f"Trial {self.best.number}" + (f", epoch {epoch}." if epoch is not None else ".")


def describe(data: ReportData, identity: str) -> SweepText:
    """The words and figures of one sweep.

    Args:
        data: Its numbers.
        identity: Its element's id, unique on the page.
    """
    names = short_names(data.searched)
    keys = [(found.name, f"slice-{index}") for index, found in enumerate(data.slices)]
    drawn = _draw(data, names)
    for found, (_, key) in zip(data.slices, keys, strict=True):
        drawn[key] = parameters.slice_plot(found, data.best)
    return SweepText(
        id=identity,
        data=data,
        title=TITLES[data.task],
        names=names,
        figures=drawn,
        missing=_missing(data),
        slices=keys,
        facts=_facts(data),
    )


def _draw(data: ReportData, names: dict[str, str]) -> dict[str, Figure]:
    drawn: dict[str, Figure] = {}
    if data.trials:
        drawn["history"] = figures.history(data)
    if any(trial.curve for trial in data.trials):
        drawn["curves"] = figures.curves(data)
    if data.importance.shares:
        drawn["importance"] = parameters.importance_bars(data.importance, names)
    if data.grid is not None:
        drawn["grid"] = parameters.heat_map(data.grid)
    if data.parts:
        drawn["parts"] = figures.part_bars(data.parts)
    return drawn


def _missing(data: ReportData) -> dict[str, str]:
    return {
        "history": "No trial has been started.",
        "curves": "No trial has finished an epoch.",
        "importance": data.importance.missing,
        "grid": "Needs scored trials with different TCN depths or Transformer layers.",
        "slices": "Needs scored trials with different parameters.",
        "parts": "No trial has a score with parts.",
    }


def _facts(data: ReportData) -> list[tuple[str, str, str]]:
    facts: list[tuple[str, str, str]] = []
    for group, label in (("features", "Features"), ("encoders", "Encoder")):
        for ancestor in data.lineage:
            folder, _, name = ancestor.folder.partition("/")
            if folder == group:
                facts.append((label, name, ancestor.folder))
    for ancestor in data.lineage:
        if ancestor.folder == "dataset":
            facts.append(("Dataset", ancestor.digest[:12], ancestor.digest))
    facts.append(("Store", data.store, data.store))
    return facts
