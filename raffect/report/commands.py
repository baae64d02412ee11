"""The commands that a reader of a sweep may want next, ready to paste into a shell."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from raffect.config import recipe
from raffect.context import DEFAULT_FEATURES
from raffect.report.data import Command
from raffect.settings import flatten, override, read_yaml
from raffect.sweep.ablation import Variant
from raffect.sweep.leaderboard import SweepView
from raffect.sweep.settings import RETRAIN_SEEDS, SweepSettings

ANNOTATIONS = "ANNOTATIONS"
"""Stands for the annotation tree: the store has no path to it."""
SPACE = "SPACE"
"""Stands for a search space of the user's own: the sweep knows its code, not where it lies."""
_DEFAULT = (DEFAULT_FEATURES,)


def next_commands(
    view: SweepView, store: str, features: Sequence[str] = _DEFAULT, own_space: bool = False
) -> tuple[Command, ...]:
    """Predict, evaluate and retrain with the best trial; extend the sweep; its tables.

    `own_space` says that the space is not the task's default.
    """
    name, where = shlex.quote(view.name), _where(store)
    unnamed = own_space and view.space is None
    extend = f"Extend the sweep to twice its trials{' (put its space for SPACE)' * unnamed}"
    if view.kind == "ablation":
        extend = "Extend the table: more seeds, or a row more by --without KEY"
    return (
        *(_with_best(view, where) if view.kind == "search" else ()),
        Command(extend, extend_command(view, store, features, own_space)),
        Command("All trials as JSON", f"raffect trials {name} --json {where}"),
        Command(
            "Every table of this report as a CSV file",
            f"raffect report {name} --csv {name} {where}",
        ),
    )


def short_commands(view: SweepView, store: str) -> list[str]:
    """Look at a sweep's trials and its report, and predict with the best of them."""
    name, where = view.name, _where(store)
    commands = [f"raffect trials {name} {where}", f"raffect report {name} {where}"]
    if view.best is not None:
        out = f"--split validation --out {name}.csv"
        commands.append(f"raffect predict sweeps/{name} {out} {where}")
    return commands


def extend_command(
    view: SweepView,
    store: str,
    features: Sequence[str] = _DEFAULT,
    own_space: bool = False,
    config: Path | None = None,
) -> str:
    """The sweep's own command for twice its trials: all that its name is bound to, no default.

    That of an ablation is for twice its seeds. What the file `config` says is left to it.
    """
    verb = "tune" if view.kind == "search" else "ablate"
    words = ["raffect", verb, view.task.value, "--name", shlex.quote(view.name)]
    words += _of_ablation(view) or ["--trials", str(2 * max(view.target, 1))]
    if tuple(features) != _DEFAULT:
        words += [f"--features {shlex.quote(name)}" for name in features]
    if view.kind == "ablation":
        return " ".join([*words, *_changes(view, features, config), _where(store)])
    words += ["--space", shlex.quote(view.space or SPACE)] if own_space else []
    defaults = {
        **SweepSettings().binding(),
        "pruning": SweepSettings(objectives=view.objectives).pruner,
    }
    for key, value in view.settings.items():
        if value is not None and value != defaults.get(key):
            text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            words += [SweepSettings.as_typed(key), shlex.quote(text)]
    # Not bound to the name, but the trials' dropout depends on it.
    workers = {maker.workers for row in view.rows for maker in row.makers}
    if len(workers) == 1 and workers != {1}:
        words += ["--workers-per-trial", str(*workers)]
    return " ".join([*words, *_changes(view, features, config), _where(store)])


def _of_ablation(view: SweepView) -> list[str]:
    if view.kind != "ablation":
        return []
    variants = [Variant.of(row) for row in view.rows]
    frozen = [of.features for of, _ in variants if isinstance(of.features, str)]
    words = ["--seeds", str(2 * len({seed for _, seed in variants}))]
    return words + (["--frozen", shlex.quote(frozen[0])] if frozen else [])


def _changes(view: SweepView, features: Sequence[str], config: Path | None) -> list[str]:
    """What the base has other than the recipe, as options: of a file, and what it leaves."""
    start = recipe(view.task, len(features))
    words = [] if config is None else ["--config", shlex.quote(str(config))]
    if config is not None:
        start = override(start, flatten(read_yaml(config)))
    base = flatten(start.canonical())
    for key, value in flatten(view.config).items():
        if value != base.get(key):
            words += ["--set", shlex.quote(f"{key}={json.dumps(value, separators=(',', ':'))}")]
    return words


def _with_best(view: SweepView, where: str) -> list[Command]:
    if view.best is None:
        return []
    number = view.best.number
    trial = shlex.quote(f"{view.name}:{number}")
    predictions = shlex.quote(f"{view.name}-{number}-validation.csv")
    fold = f" --fold {view.config['fold']}" if view.config.get("fold") else ""
    return [
        Command(
            f"Predict the validation videos with trial {number}, the best",
            f"raffect predict sweeps/{trial} --split validation --out {predictions} {where}",
        ),
        Command(
            f"Score that file against the annotation tree (put its folder for {ANNOTATIONS}); "
            "it gives the score above",
            f"raffect evaluate {view.task.value} {predictions} --annotations {ANNOTATIONS}{fold}",
        ),
        Command(
            "Train it again under further seeds, to see how far its score is luck",
            f"raffect retrain {trial} --seeds {RETRAIN_SEEDS} {where}",
        ),
    ]


def _where(store: str) -> str:
    return f"--store {shlex.quote(store)}"
