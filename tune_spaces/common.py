"""What the tasks' spaces share: the architecture and the optimiser.

Not searched: the segments (300 frames at stride 200 in every paper that uses this
recipe; trials on other segments cost several times as much), the widths (they follow from the
features; `--set model.width=...`), the batch size (it trades against the learning rate), and the
epochs (the budget that pruning distributes).
"""

from __future__ import annotations

from typing import Any

from optuna import Trial

# Found on small sets: one layer trains at 30 times the learning rate that 8 layers tolerate.
SHALLOW: dict[str, Any] = {"model.transformer.layers": 1, "optimiser.lr": 1e-3}
# The authors' head learns in fewer steps than the paper's, and at a higher rate.
BATCHNORM: dict[str, Any] = SHALLOW | {"model.head": "batchnorm", "optimiser.lr": 2e-3}


def architecture(trial: Trial) -> dict[str, Any]:
    """TCN, Transformer encoder and head."""
    found: dict[str, Any] = {
        # Without a TCN the paper loses 0.013 to 0.024. A block doubles the receptive field: with
        # kernel 5, three blocks see 57 frames (2 s) and five 249 (8 s), nearly a whole segment.
        "model.tcn.depth": trial.suggest_int("model.tcn.depth", 0, 5),
        # The recipe has 8, the most that helped there; small data needs only one or two.
        "model.transformer.layers": trial.suggest_int("model.transformer.layers", 0, 8),
        # Above 0.5, dropout right before the output is mostly noise in the loss.
        "model.head_dropout": trial.suggest_float("model.head_dropout", 0.0, 0.5),
        # The paper's activation, or the batch norm of the authors' code: on drawn faces that is
        # worth .02 to .1 for expressions and action units.
        "model.head": trial.suggest_categorical("model.head", ["relu", "batchnorm"]),
    }
    if found["model.tcn.depth"]:
        # Odd kernels around the recipe's 5; longer ones see more at a higher cost than depth.
        found["model.tcn.kernel"] = trial.suggest_int("model.tcn.kernel", 3, 9, step=2)
        found["model.tcn.dropout"] = trial.suggest_float("model.tcn.dropout", 0.0, 0.5)
    if found["model.transformer.layers"]:
        # Divisors of every width in use; a width that is no multiple of 8 may fail as bad-config.
        heads = trial.suggest_categorical("model.transformer.heads", [2, 4, 8])
        found["model.transformer.heads"] = heads
        dropout = trial.suggest_float("model.transformer.dropout", 0.0, 0.5)
        found["model.transformer.dropout"] = dropout
    return found


def optimisation(trial: Trial) -> dict[str, Any]:
    """AdamW's learning rate and weight decay."""
    # From below the recipe's 1e-5, practically none, to the 0.1 of vision transformers.
    decay = trial.suggest_float("optimiser.weight_decay", 1e-6, 0.1, log=True)
    return {
        # The recipe's 3e-5 suits 8 layers of width 512; 3e-3 is where small models diverge.
        "optimiser.lr": trial.suggest_float("optimiser.lr", 1e-5, 3e-3, log=True),
        "optimiser.weight_decay": decay,
    }


def auxiliary(trial: Trial, *tasks: str) -> dict[str, Any]:
    """Weights of other tasks' losses; 0 is uni-task. Needs their labels on the same videos.

    A trial that trains on them is not uni-task, as ABAW's VA track demands; what a model was
    trained with is recorded in its config.json.
    """
    keys = [f"losses.auxiliary.{task}" for task in tasks]
    # A few values, because a logarithmic scale has no place for 0.
    return {key: trial.suggest_categorical(key, [0.0, 0.1, 0.3, 1.0]) for key in keys}
