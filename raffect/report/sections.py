"""The words and figures of one sweep's sections, ready for the template."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean, stdev

from raffect.affwild2.tasks import SPECS, Task
from raffect.report.data import Cost, Judged, ReportData, Shown, Trial
from raffect.report.figures.all import Drawing, draw
from raffect.report.tables import ENDING, Cell
from raffect.report.tables_of_sweep import for_page
from raffect.sweep.attributes import FINISHED, SCORED, STATE_NAMES
from raffect.text import duration, score_text, short_names

TITLES = {Task.VA: "Valence and arousal", Task.EXPR: "Expressions", Task.AU: "Action units"}
TOP = 10
MOST_ROWS = 200
"""Trials in the page's tables; more are slow to lay out."""


@dataclass(frozen=True)
class SweepText:
    """What the template of one sweep shows beside the numbers.

    Attributes:
        data: All numbers.
        drawn: Those of them that the figures show.
        drawing: The figures.
        facts: Label, short text and full text of the header's facts.
    """

    id: str
    data: ReportData
    drawn: ReportData
    title: str
    names: dict[str, str]
    drawing: Drawing
    facts: list[tuple[str, str, str]]

    @property
    def tables(self) -> dict[str, dict[str, list[Cell]]]:
        """The numbers behind the figures, as the page's script reads them."""
        return {name: table.by_column() for name, table in self.drawing.tables.items()}

    def csv_name(self, table: str) -> str:
        """Name of the file in which the page saves a table."""
        return f"{self.data.name}-{table}{ENDING}"

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
        return BASELINES[self.data.task] if self.has_baseline else "not recorded"

    @property
    def honest(self) -> str:
        """What the score is, and is not."""
        return HONEST

    @property
    def counts(self) -> str:
        """Number of trials in each state."""
        taken = len(self.data.trials) - len(self.data.own)
        counts = [f"{n} {STATE_NAMES[state]}" for state, n in self.data.counts.items()]
        return ", ".join(counts + [f"{taken} more from other sweeps"] * (taken > 0))

    @property
    def unfinished(self) -> str:
        """A note on a sweep that has not run all of its trials."""
        if self.data.ended:
            return f"This sweep ended before all of its trials were run: {self.data.ended}."
        if self.data.finished:
            return ""
        ended = sum(trial.state in FINISHED for trial in self.data.own)
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
        """The trials below the leaderboard, as many as a page shows."""
        return self.data.ranked[TOP:MOST_ROWS]

    @property
    def hidden(self) -> int:
        """Number of trials that no table shows."""
        return max(0, len(self.data.trials) - MOST_ROWS)

    @property
    def has_latency(self) -> bool:
        """Whether the model's speed was an objective or limited, so that it is worth a column."""
        limited = any("latency" in name for t in self.data.trials for name in t.violations)
        return limited or "latency" in self.data.objectives

    @property
    def interval(self) -> str:
        """The best score's interval; empty if unknown."""
        return interval_text(self.data.judged) if self.data.judged else ""

    @property
    def interval_note(self) -> str:
        """What the interval is, or why there is none."""
        return interval_note(self.data)

    @property
    def seeds_note(self) -> str:
        """Spread of the best trial over seeds; empty if unknown."""
        return seeds_note(self.best)

    @property
    def seeds_mean(self) -> float | None:
        """Mean of the best trial over seeds."""
        return seeds_mean(self.best) if self.best and self.best.seeds else None

    @property
    def confusion_title(self) -> str:
        """Title of what was predicted for what."""
        return CONFUSION_TITLES[self.data.task]

    @property
    def confusion_caption(self) -> str:
        """How to read it."""
        return CONFUSION_CAPTIONS[self.data.task]

    @property
    def videos(self) -> list[tuple[str, str]]:
        """Title and figure's key of each video over time."""
        shown = self.data.judged.shown if self.data.judged else ()
        titles = [video_title(one) for one in shown]
        return list(zip(titles, self.drawing.videos, strict=True))

    @property
    def videos_caption(self) -> str:
        """Which videos these are, and how to read the figures."""
        return videos_caption(self.data.task, self.data)

    @property
    def cost(self) -> list[str]:
        """What the sweep took, in sentences."""
        return cost_sentences(self.data.cost)

    @property
    def drawn_note(self) -> str:
        """What of a large sweep the page does not show; empty where it shows all."""
        return drawn_note(self.data, self.drawn)

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
        return f"What the best score is made of: {PARTS[self.data.task]}"

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
    drawn = for_page(data)
    return SweepText(
        id=identity,
        data=data,
        drawn=drawn,
        title=TITLES[data.task],
        names=short_names(data.searched),
        drawing=draw(drawn),
        facts=_facts(data),
    )


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


PARTS = {
    Task.VA: "concordance correlation coefficient",
    Task.EXPR: "F1 of each expression",
    Task.AU: "F1 of each action unit",
}
BASELINES = {
    Task.VA: "always the mean of the training labels",
    Task.EXPR: "always the most frequent expression",
    Task.AU: "always all units active",
}
CONFUSION_TITLES = {
    Task.VA: "True and predicted values",
    Task.EXPR: "Confusion matrix",
    Task.AU: "Hits, misses and false alarms",
}
CONFUSION_CAPTIONS = {
    Task.VA: "Each column shows where the frames of one true value were predicted; the darker, or "
    "in dark mode the lighter, the more of them. Right predictions lie on the dotted line.",
    Task.EXPR: "Each row shows where the frames of one true expression were predicted; hover for "
    "the number of frames.",
    Task.AU: "Frames that decide about each unit's F1; those not active and not predicted do not.",
}
_VIDEO_SCORES = {
    Task.VA: "mean CCC",
    Task.EXPR: "mean F1 of the expressions that occur in it or were predicted",
    Task.AU: "mean F1 of the units that occur in it or were predicted",
}
_VIDEO_FIGURES = {
    Task.VA: "True values in the colour of the text, predicted ones in orange.",
    Task.EXPR: "Bands: the probability of each expression. Orange: the true one.",
    Task.AU: "Bands: the probability of each unit. Orange: where it is truly active.",
}
HONEST = (
    "The score is that of each trial's best epoch on the validation set. Epochs, trials and this "
    "ranking were all chosen on that same set, so expect less on videos that no choice has seen."
)
_DIFFERS = 5e-4
"""Of scores; more than another device's rounding brings about."""


def interval_text(judged: Judged) -> str:
    """The interval in a few"""
    low, high = judged.interval
    return f"95 % interval {score_text(low)} to {score_text(high)}"


def interval_note(data: ReportData) -> str:
    """What the interval is, or why there is none."""
    if data.judged is None:
        return f"No interval, confusion or curves: {data.unjudged}"
    judged, score = data.judged, data.best_trial.score if data.best_trial else None
    note = (
        f"The interval is a bootstrap over the {judged.videos} validation videos "
        f"({judged.frames:,} valid frames), from predictions made for this report: how much the "
        "score depends on which videos these are. It knows nothing of the choices."
    )
    if score is not None and abs(judged.score - score) > _DIFFERS:
        note += (
            f" Predicted again, the score is {score_text(judged.score)}: the trial was validated "
            "on another kind of device, or its model or the labels have changed."
        )
    return note


def seeds_note(trial: Trial | None) -> str:
    """The spread of a trial's settings over seeds; empty below two seeds."""
    if trial is None or len(trial.seeds) < 2:
        return ""
    scores = list(trial.seeds.values())
    return (
        f"± {score_text(stdev(scores))} over {len(scores)} seeds of trial {trial.number} "
        "(mean, standard deviation)"
    )


def seeds_mean(trial: Trial) -> float:
    """The mean score of a trial's settings over seeds."""
    return mean(trial.seeds.values())


def videos_caption(task: Task, data: ReportData) -> str:
    """Which videos are shown, and how."""
    chosen = (
        "The videos that the best trial's model predicts best, in the middle and worst, by their "
        f"own score ({_VIDEO_SCORES[task]}). {_VIDEO_FIGURES[task]}"
    )
    steps = {shown.step for shown in data.judged.shown} if data.judged else {1}
    return chosen + (" Of long videos every so many frames only." if steps != {1} else "")


def video_title(shown: Shown) -> str:
    """Which video this is, and why it is shown."""
    kind = {"best": "Best", "median": "In the middle", "worst": "Worst"}[shown.why]
    step = f", every {shown.step} frames" if shown.step > 1 else ""
    return (
        f"{kind}: {shown.video} ({score_text(shown.score)}, {shown.frames:,} valid frames{step})"
    )


def cost_sentences(cost: Cost) -> list[str]:
    """What the sweep took, and what pruning spared it."""
    found = []
    if cost.epochs:
        pace = duration(cost.seconds / cost.epochs)
        found.append(
            f"{cost.epochs:,} epochs took {duration(cost.device_seconds)} of devices, "
            f"{pace} per epoch."
        )
    if cost.hours > 0:
        found.append(f"All runs of the command together took {duration(3600 * cost.hours)}.")
    if cost.saved_epochs:
        share = cost.saved_epochs / (cost.saved_epochs + cost.epochs)
        found.append(
            f"Pruning spared {cost.saved_epochs:,} epochs ({share:.0%} of what full budgets of "
            f"{cost.budget} epochs would have been), about "
            f"{duration(cost.saved_device_seconds)} of devices."
        )
    if cost.taken_over:
        found.append(f"{cost.taken_over} results were taken over from other sweeps at no cost.")
    return found


def drawn_note(data: ReportData, drawn: ReportData) -> str:
    """What of a large sweep the page does not show; empty where it shows all."""
    if len(drawn.trials) == len(data.trials) and drawn.trials == data.trials:
        return ""
    curves = sum(bool(trial.curve) for trial in drawn.trials)
    return (
        f"The figures show {len(drawn.trials):,} of {len(data.trials):,} trials and {curves:,} "
        "learning curves: the best, and others evenly by number. `raffect report --csv DIR` "
        "writes the numbers of all."
    )
