"""What a study records beside what Optuna does: names of attributes, and the trials' states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

State = Literal["COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING"]
STATES: tuple[State, ...] = ("COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING")
"""Optuna's trial states: full budget, stopped early, failed, running, not begun."""
SCORED: tuple[State, ...] = ("COMPLETE", "PRUNED")
"""States of trials that ended well; only these are ranked."""
FINISHED: tuple[State, ...] = (*SCORED, "FAIL")
"""States of trials that ended."""
STATE_NAMES: Mapping[str, str] = {
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
    "RUNNING": "running",
    "WAITING": "waiting",
}
"""The states for people."""

# Attributes of a trial.
EPOCH = "epoch."
"""Prefix of the attributes with the fields of each EpochResult: `epoch.001`, ..."""
REASON = "reason"
"""Why the trial failed, or was refused by a limit."""
FILES = "files"
"""Files of the trial's model, as the sweep's manifest lists them."""
RECIPE = "recipe"
"""The trial has the base settings."""
POINT = "point"
"""Where the parameters that it tries are from: the space's name for one of its known-good points,
`SWEEP:NUMBER` for a trial of another sweep."""
ENQUEUED = "enqueued"
"""From which machine the trial was added with `raffect enqueue`, and when."""
VARIANT = "variant"
"""Of an ablation's trial: what it changes, see ablation.Variant."""
ORIGIN = "origin"
"""`SWEEP:NUMBER` of a result that was taken over from another sweep."""
DEVICES = "devices"
"""Devices that the trial took."""
PARAMETERS = "parameters"
"""Trained values of its model."""
WORKERS = "workers"
"""Processes that trained its model together; before 0.3 only where there were several."""
LATENCY = "latency_ms"
"""Milliseconds that its model takes per 1,000 frames."""
ACCUMULATION = "accumulation"
"""Parts in which it takes each batch, since it was out of memory."""
MADE_BY = "made_by"
"""What it was computed with (records.Maker), the first first; several if a driver went on with
another."""

# Attributes of the study.
WARM = "warm"
"""What other sweeps brought to it (warmstart.py)."""
SPACE = "space"
"""The space, as the user named it."""
ENDED = "ended"
"""Why it ended before all trials were run."""
SPENT = "spent"
"""Seconds of each run of the command."""
BASELINE = "baseline"
"""Score and parts of the trivial prediction."""
LINEAR_FLOOR = "linear_floor"
"""Those of ridge regression on window means (temporal/linear.py); None: it failed."""
SEEN = "seen"
"""By encoder: validation videos that it was fine-tuned on, and all (temporal/seen.py)."""
TARGET = "target"
"""Trials that were asked for."""
DRIVER = "driver"
"""The command that writes it: the id of its `run`, `who` it is, and since when."""
