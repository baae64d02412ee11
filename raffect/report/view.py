"""The words and figures of one sweep's sections, ready for the template."""

from __future__ import annotations

from dataclasses import dataclass

from raffect.affwild2.tasks import SPECS, Task
from raffect.report import words
from raffect.report.data import SCORED, ReportData, Trial
from raffect.report.drawing import Drawing, draw
from raffect.report.naming import short_names
from raffect.report.style import STATE_NAMES
from raffect.report.tables import ENDING, Cell
from raffect.report.tabulate import for_page

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
        return words.BASELINES[self.data.task] if self.has_baseline else "not recorded"

    @property
    def honest(self) -> str:
        """What the score is, and is not."""
        return words.HONEST

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
        ended = sum(trial.state in (*SCORED, "FAIL") for trial in self.data.own)
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
        return words.interval_text(self.data.judged) if self.data.judged else ""

    @property
    def interval_note(self) -> str:
        """What the interval is, or why there is none."""
        return words.interval_note(self.data)

    @property
    def seeds_note(self) -> str:
        """Spread of the best trial over seeds; empty if unknown."""
        return words.seeds_note(self.best)

    @property
    def seeds_mean(self) -> float | None:
        """Mean of the best trial over seeds."""
        return words.seeds_mean(self.best) if self.best and self.best.seeds else None

    @property
    def confusion_title(self) -> str:
        """Title of what was predicted for what."""
        return words.CONFUSION_TITLES[self.data.task]

    @property
    def confusion_caption(self) -> str:
        """How to read it."""
        return words.CONFUSION_CAPTIONS[self.data.task]

    @property
    def videos(self) -> list[tuple[str, str]]:
        """Title and figure's key of each video over time."""
        shown = self.data.judged.shown if self.data.judged else ()
        titles = [words.video_title(one) for one in shown]
        return list(zip(titles, self.drawing.videos, strict=True))

    @property
    def videos_caption(self) -> str:
        """Which videos these are, and how to read the figures."""
        return words.videos_caption(self.data.task, self.data)

    @property
    def cost(self) -> list[str]:
        """What the sweep took, in sentences."""
        return words.cost_sentences(self.data.cost)

    @property
    def drawn_note(self) -> str:
        """What of a large sweep the page does not show; empty where it shows all."""
        return words.drawn_note(self.data, self.drawn)

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
        return f"What the best score is made of: {words.PARTS[self.data.task]}"

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
