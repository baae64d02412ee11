"""The words and figures of one sweep's sections, ready for the template."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean, stdev

from raffect.affwild2.tasks import SPECS, Task
from raffect.report.ablation import PUBLISHED
from raffect.report.data import Cost, ReportData
from raffect.report.figures.all import Drawing, draw
from raffect.report.tables import Cell
from raffect.report.tables_of_sweep import for_page
from raffect.store.layout import DATASET, ENCODERS, FEATURES
from raffect.sweep.ablation import FULL
from raffect.sweep.attributes import FINISHED, STATE_NAMES
from raffect.sweep.records import TrialRow
from raffect.text import duration, score_text, short_names

TOP = 10
MOST_ROWS = 200
"""Trials in the page's tables; more are slow to lay out."""
PRINTED = 20
"""Trials in the printed tables, half of them in each."""
_DIFFERS = 5e-4
"""Of scores; more than another device's rounding brings about."""


@dataclass(frozen=True)
class TaskWords:
    """What depends on the task; the score is the mean of `parts`."""

    title: str
    parts: str
    baseline: str
    confusion_title: str
    confusion_caption: str
    video_score: str
    video_figure: str


WORDS = {
    Task.VA: TaskWords(
        title="Valence and arousal",
        parts="concordance correlation coefficient",
        baseline="always the mean of the training labels",
        confusion_title="True and predicted values",
        confusion_caption="Each column shows where the frames of one true value were predicted; "
        "the darker, or in dark mode the lighter, the more of them; half and more have the "
        "strongest colour. Right predictions lie on the dotted line.",
        video_score="mean CCC",
        video_figure="True values in the colour of the text, predicted ones in orange.",
    ),
    Task.EXPR: TaskWords(
        title="Expressions",
        parts="F1 of each expression",
        baseline="always the most frequent expression",
        confusion_title="Confusion matrix",
        confusion_caption="Each row shows where the frames of one true expression were predicted; "
        "hover for the number of frames.",
        video_score="mean F1 of the expressions that occur in it or were predicted",
        video_figure="Bands: the probability of each expression. Orange: the true one.",
    ),
    Task.AU: TaskWords(
        title="Action units",
        parts="F1 of each action unit",
        baseline="always all units active",
        confusion_title="Hits, misses and false alarms",
        confusion_caption="Frames that decide about each unit's F1; those not active and not "
        "predicted do not.",
        video_score="mean F1 of the units that occur in it or were predicted",
        video_figure="Bands: the probability of each unit. Orange: where it is truly active.",
    ),
}
_WHY = {"best": "Best", "median": "In the middle", "worst": "Worst"}


@dataclass(frozen=True)
class SweepSections:
    """What the template of one sweep shows beside the numbers in `data`.

    `id` is of its element, unique on the page; the figures show the numbers in `drawn`; `names`
    are short ones of the searched parameters.
    """

    id: str
    data: ReportData
    drawn: ReportData
    names: dict[str, str]
    drawing: Drawing

    @property
    def words(self) -> TaskWords:
        """What depends on the task."""
        return WORDS[self.data.task]

    @property
    def folds(self) -> list[tuple[str, str]]:
        """Name and title of the parts that the jump menu leads to."""
        parts = {
            "ablation-part": "Ablation",
            "trials": "Leaderboard",
            "progress": "Progress",
            "parameters": "Parameters",
            "model": "Best model",
            "origin": "Failures, lineage and use",
        }
        del parts["parameters" if self.data.ablation else "ablation-part"]
        return list(parts.items())

    @property
    def tables(self) -> dict[str, dict[str, list[Cell]]]:
        """The numbers behind the figures, as the page's script reads them."""
        return {name: table.by_column() for name, table in self.drawing.tables.items()}

    @property
    def facts(self) -> list[tuple[str, str, str]]:
        """Label, short text and full text of the header's facts."""
        lineage, store = self.data.lineage, self.data.store
        return [
            *(
                (label, ancestor.folder.removeprefix(group), ancestor.folder)
                for group, label in ((f"{FEATURES}/", "Features"), (f"{ENCODERS}/", "Encoder"))
                for ancestor in lineage
                if ancestor.folder.startswith(group)
            ),
            *(("Dataset", a.digest[:12], a.digest) for a in lineage if a.folder == DATASET),
            ("Store", store, store),
        ]

    @property
    def score(self) -> float | None:
        """Score of the best trial."""
        return self.data.best.score if self.data.best else None

    @property
    def score_name(self) -> str:
        """What the challenge's score is called."""
        return SPECS[self.data.task].score_name

    @property
    def gained(self) -> str:
        """How much of the gap between the baseline and the best reachable score is closed."""
        return "–" if self.data.gained is None else f"{self.data.gained:.0%}"

    @property
    def recipe_note(self) -> str:
        """Where the trial with the base settings stands; empty without a score of it in full."""
        trial = self.data.view.recipe
        if trial is None or trial.full_score is None:
            return ""
        rank = [row.number for row in self.data.view.rows].index(trial.number) + 1
        return f"trial {trial.number}, the settings that the sweep began with; rank {rank}"

    @property
    def counts(self) -> str:
        """Number of trials in each state."""
        taken = len(self.data.trials) - len(self.data.own)
        counts = [f"{n} {STATE_NAMES[state]}" for state, n in self.data.counts.items()]
        return ", ".join(counts + [f"{taken} more from other sweeps"] * (taken > 0))

    @property
    def unfinished(self) -> str:
        """A note on a sweep that has not run all of its trials."""
        view = self.data.view
        if view.ended:
            return f"This sweep ended before all of its trials were run: {view.ended}."
        if view.manifest is not None:
            return ""
        ended = sum(trial.state in FINISHED for trial in self.data.own)
        return (
            f"This sweep has not ended: {ended} of {view.target} trials have. It is running, "
            "or was interrupted; the same command given again continues it."
        )

    @property
    def top(self) -> list[TrialRow]:
        """The trials of the leaderboard."""
        return self.data.view.rows[:TOP]

    @property
    def rest(self) -> list[TrialRow]:
        """The trials below the leaderboard, as many as a page shows."""
        return self.data.view.rows[TOP:MOST_ROWS]

    @property
    def printed(self) -> list[list[TrialRow]]:
        """The trials of each printed table, where they are columns."""
        rows, size = self.data.view.rows[:PRINTED], PRINTED // 2
        # No table of one or two columns.
        size += 2 if len(rows) <= size + 2 else 0
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    @property
    def titles(self) -> dict[str, str]:
        """What the axes of the parameters that varied are called."""
        return {found.name: found.title(self.names) for found in self.data.slices}

    @property
    def hidden(self) -> int:
        """Number of trials that no table shows."""
        return max(0, len(self.data.trials) - MOST_ROWS)

    @property
    def has_latency(self) -> bool:
        """Whether the model's speed was an objective or limited, so that it is worth a column."""
        limited = any("latency" in name for t in self.data.trials for name in t.violations)
        return limited or "latency" in self.data.view.objectives

    @property
    def has_raw(self) -> bool:
        """Whether post-processing makes a difference between a score and the raw one."""
        return any(trial.raw != trial.score for trial in self.data.trials)

    @property
    def expectation_note(self) -> str:
        """What the expected score is."""
        return (
            "The expected score is corrected for the choice among the trials: what the best one "
            "would score on average on as many new videos that chose nothing, given how far the "
            "trials differ and how much of that the few videos explain. The choice of its epoch "
            "is not corrected."
        )

    @property
    def interval(self) -> str:
        """The best score's interval; empty if unknown."""
        if self.data.validation is None:
            return ""
        low, high = self.data.validation.interval
        return f"{score_text(low)} to {score_text(high)}"

    @property
    def interval_note(self) -> str:
        """What the interval is, or why there is none."""
        validation = self.data.validation
        if validation is None:
            return f"No interval, confusion or curves: {self.data.not_validated}"
        note = (
            f"The interval is a bootstrap over the {validation.videos} validation videos "
            f"({validation.frames:,} valid frames), from predictions made for this report: how "
            "much the score depends on which videos these are. It knows nothing of the choices."
        )
        if self.score is not None and abs(validation.score - self.score) > _DIFFERS:
            note += (
                f" Predicted again, the score is {score_text(validation.score)}: the trial was "
                "validated on another kind of device, or its model or the labels have changed."
            )
        return note

    @property
    def seeds_mean(self) -> float | None:
        """Mean score of the best trial's settings over seeds; None without any."""
        best = self.data.best
        return mean(best.seeds.values()) if best and best.seeds else None

    @property
    def seeds_note(self) -> str:
        """The spread of the best trial's settings over seeds; empty below two seeds."""
        best = self.data.best
        if best is None or len(best.seeds) < 2:
            return ""
        return (
            f"± {score_text(stdev(best.seeds.values()))} over {len(best.seeds)} seeds of trial "
            f"{best.number} (mean, standard deviation)"
        )

    @property
    def importance_caption(self) -> str:
        """What the importance says, and of how many trials."""
        importance = self.data.importance
        if importance.missing:
            return "PED-ANOVA importance of the searched parameters."
        few = " A first indication only." if importance.trials < 30 else ""
        return (
            f"PED-ANOVA: how much each parameter tells the best {importance.target} of the "
            f"{importance.trials} scored trials from all of them.{few} The lines are 5 to 95 % of "
            f"{importance.samples} bootstraps of the trials: where they overlap, the order is "
            "luck. optuna-dashboard shows other values: it sees complete trials only, "
            f"{importance.complete} of these."
        )

    @property
    def parts_caption(self) -> str:
        """Whose parts they are."""
        best = self.data.best
        if best is None:
            return "Parts of the best trial's score."
        epoch = "" if best.best_epoch is None else f", epoch {best.best_epoch}"
        return f"Trial {best.number}{epoch}."

    @property
    def videos(self) -> list[tuple[str, str]]:
        """Title and figure's key of each video over time."""
        titles = []
        for video in self.data.validation.shown if self.data.validation else ():
            step = f", every {video.step} frames" if video.step > 1 else ""
            score = f"{score_text(video.score)}, {video.frames:,} valid frames{step}"
            titles.append(f"{_WHY[video.why]}: {video.video} ({score})")
        return list(zip(titles, self.drawing.videos, strict=True))

    @property
    def videos_caption(self) -> str:
        """Which videos these are, and how to read the figures."""
        videos = self.data.validation.shown if self.data.validation else ()
        thinned = any(video.step > 1 for video in videos)
        return (
            "The videos that the best trial's model predicts best, in the middle and worst, by "
            f"their own score ({self.words.video_score}). {self.words.video_figure}"
        ) + (" Of long videos every so many frames only." if thinned else "")

    @property
    def published(self) -> list[tuple[str, float, float | None]]:
        """The authors' own ablation of the task: model, score, difference to the full one."""
        task, full = self.data.task, PUBLISHED[FULL][self.data.task]
        return [
            (name, of[task], None if name == FULL else of[task] - full)
            for name, of in PUBLISHED.items()
        ]

    @property
    def cost(self) -> list[str]:
        """What the sweep took, in sentences."""
        return cost_sentences(self.data.cost)

    @property
    def drawn_note(self) -> str:
        """What of a large sweep the page does not show; empty where it shows all."""
        trials, drawn = self.data.trials, self.drawn.trials
        if drawn == trials:
            return ""
        curves = sum(bool(trial.curve) for trial in drawn)
        return (
            f"The figures show {len(drawn):,} of {len(trials):,} trials and {curves:,} "
            "learning curves: the best, and others evenly by number. `raffect report --csv DIR` "
            "writes the numbers of all."
        )


def describe(data: ReportData, identity: str) -> SweepSections:
    """The words and figures of one sweep; `identity` is its element's id."""
    drawn = for_page(data)
    return SweepSections(identity, data, drawn, short_names(data.searched), draw(drawn))


def cost_sentences(cost: Cost) -> list[str]:
    """What the sweep took, and what pruning saved."""
    sentences = []
    if cost.epochs:
        pace = duration(cost.seconds / cost.epochs)
        sentences.append(
            f"{cost.epochs:,} epochs took {duration(cost.device_seconds)} of device time, "
            f"{pace} per epoch."
        )
    if cost.hours > 0:
        sentences.append(f"All runs of the command together took {duration(3600 * cost.hours)}.")
    if cost.saved_epochs:
        share = cost.saved_epochs / (cost.saved_epochs + cost.epochs)
        sentences.append(
            f"Pruning spared {cost.saved_epochs:,} epochs ({share:.0%} of what full budgets of "
            f"{cost.budget} epochs would have been), about "
            f"{duration(cost.saved_device_seconds)} of device time."
        )
    if cost.taken_over:
        taken = f"{cost.taken_over} results were taken over from other sweeps"
        sentences.append(f"{taken} at no cost.")
    return sentences
