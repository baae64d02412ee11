"""The commands that a reader of the report may want next, ready to paste into a shell."""

from __future__ import annotations

import shlex

from raffect.affwild2.tasks import Task
from raffect.report.data import Command

ANNOTATIONS = "ANNOTATIONS"
"""Stands for the annotation tree: the store has no path to it."""


def next_commands(sweep: str, task: Task, store: str, has_best: bool) -> tuple[Command, ...]:
    """Predict and evaluate with the best trial, read the leaderboard, and extend the sweep."""
    name, where = shlex.quote(sweep), f"--store {shlex.quote(store)}"
    predictions = shlex.quote(f"{sweep}-validation.csv")
    commands = [
        Command("All trials as JSON", f"raffect trials {name} --json {where}"),
    ]
    if has_best:
        commands = [
            Command(
                "Predict the validation videos with the best trial",
                f"raffect predict sweeps/{name} --split validation --out {predictions} {where}",
            ),
            Command(
                f"Score that file against the annotation tree (put its folder for {ANNOTATIONS}); "
                "it gives the score above",
                f"raffect evaluate {task.value} {predictions} --annotations {ANNOTATIONS}",
            ),
            *commands,
        ]
    return tuple(commands)
