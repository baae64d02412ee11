"""Titles, captions and sentences that depend on the task or on the numbers."""

from __future__ import annotations

from statistics import mean, stdev

from raffect.affwild2.tasks import Task
from raffect.report.data import ReportData, Trial
from raffect.report.judged import Judged, Shown
from raffect.report.naming import duration, score_text
from raffect.report.outlay import Cost

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
    """The interval in a few words."""
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
