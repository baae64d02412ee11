"""The command that is killed and given again: a small sweep that says each event on a line."""

from __future__ import annotations

import sys

from raffect.affwild2.tasks import Task
from raffect.config import TemporalConfig
from raffect.errors import RaffectError, find_user_error
from raffect.store import Store
from raffect.sweep.progress import SweepProgress
from raffect.sweep.settings import SweepSettings
from tests.sweep import tiny

EVENT = "event:"
"""Begins a line about the sweep; others are what the engine says."""
SWEEP = "s"
FEATURES = "clip"
TASK = Task.VA
TRIALS = 12
EPOCHS = 9
FIRST_RUNG, FACTOR = 1, 2
SPACE = """
def space(trial):
    return {
        "optimiser.lr": trial.suggest_float("optimiser.lr", 1e-5, 1e-2, log=True),
        "optimiser.weight_decay": trial.suggest_float("optimiser.weight_decay", 1e-6, 1e-2),
    }
"""


def settings(space: str) -> SweepSettings:
    """Two trials at a time, compared after 1, 2, 4 and 8 epochs, with a checkpoint after each."""
    return SweepSettings(
        trials=TRIALS,
        space=space,
        concurrent=2,
        min_epochs=FIRST_RUNG,
        reduction_factor=FACTOR,
        checkpoint_seconds=0,
    )


def base() -> TemporalConfig:
    """Steps enough for epochs of some tenths of a second, which a kill can hit."""
    return tiny.base(
        TASK,
        segments__stride=1,
        model__transformer__layers=1,
        optimiser__batch_size=1,
        optimiser__epochs=EPOCHS,
    )


def drive(uri: str, space: str) -> int:
    """Sweep, and end as the command line does."""
    from raffect.sweep.tune import tune

    try:
        tune(Store(uri), TASK, FEATURES, SWEEP, settings(space), base(), on_update=_tell)
    except Exception as error:
        known = find_user_error(error)
        if known is None:
            raise
        sys.stderr.write(f"Error: {known}\n")
        return RaffectError.exit_code
    return 0


def _tell(progress: SweepProgress) -> None:
    print(EVENT, progress.event, progress.trial, progress.epoch, progress.state, flush=True)


if __name__ == "__main__":
    sys.exit(drive(*sys.argv[1:]))
