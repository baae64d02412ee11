"""The commands that a reader of the report may want next, ready to paste into a shell."""

from __future__ import annotations

import json
import shlex
from typing import Any

from raffect.config import recipe
from raffect.report.data import Command
from raffect.settings import flatten
from raffect.sweep.leaderboard import SweepView
from raffect.sweep.settings import SweepSettings

ANNOTATIONS = "ANNOTATIONS"
"""Stands for the annotation tree: the store has no path to it."""
SPACE = "SPACE"
"""Stands for a search space of the user's own: the sweep knows its code, not where it lies."""
SEEDS = 5
_OPTIONS = {"objectives": "--objective"}


def next_commands(
    view: SweepView,
    store: str,
    best: int | None,
    features: str = "clip",
    own_space: bool = False,
) -> tuple[Command, ...]:
    """Predict, evaluate and retrain with the best trial; extend the sweep; its tables.

    Args:
        view: The sweep.
        store: URI of the store.
        best: Number of the best trial.
        features: Name of the features.
        own_space: The space is not the task's default.
    """
    name, where = shlex.quote(view.name), f"--store {shlex.quote(store)}"
    unnamed = own_space and view.space is None
    commands = [
        Command(
            f"Extend the sweep to twice its trials{' (put its space for SPACE)' * unnamed}",
            " ".join([*_tune(view, features, own_space), where]),
        ),
        Command("All trials as JSON", f"raffect trials {name} --json {where}"),
        Command(
            "Every table of this report as a CSV file",
            f"raffect report {name} --csv {name} {where}",
        ),
    ]
    return tuple([*_with_best(view, best, where), *commands] if best is not None else commands)


def _with_best(view: SweepView, best: int, where: str) -> list[Command]:
    trial = shlex.quote(f"{view.name}:{best}")
    predictions = shlex.quote(f"{view.name}-{best}-validation.csv")
    return [
        Command(
            f"Predict the validation videos with trial {best}, the best",
            f"raffect predict sweeps/{trial} --split validation --out {predictions} {where}",
        ),
        Command(
            f"Score that file against the annotation tree (put its folder for {ANNOTATIONS}); "
            "it gives the score above",
            f"raffect evaluate {view.task.value} {predictions} --annotations {ANNOTATIONS}",
        ),
        Command(
            "Train it again under further seeds, to see how far its score is luck",
            f"raffect retrain {trial} --seeds {SEEDS} {where}",
        ),
    ]


def _tune(view: SweepView, features: str, own_space: bool) -> list[str]:
    """The sweep's own command with more trials: all that its name is bound to, and no default."""
    words = ["raffect tune", view.task.value, "--name", shlex.quote(view.name)]
    words += ["--trials", str(2 * max(view.target, 1))]
    words += ["--features", shlex.quote(features)] if features != "clip" else []
    words += ["--space", shlex.quote(view.space or SPACE)] if own_space else []
    usual = {**SweepSettings().binding(), "pruning": _usual_pruning(view)}
    for key, value in view.settings.items():
        if value is not None and value != usual.get(key):
            words += [_OPTIONS.get(key, f"--{key.replace('_', '-')}"), shlex.quote(_option(value))]
    before = flatten(recipe(view.task).canonical())
    changed = {k: v for k, v in flatten(view.config).items() if v != before.get(k)}
    for key, value in changed.items():
        words += ["--set", shlex.quote(f"{key}={json.dumps(value, separators=(',', ':'))}")]
    return words


def _usual_pruning(view: SweepView) -> str:
    return SweepSettings(objectives=view.objectives).pruner


def _option(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
