"""Optuna without its notes on the screen."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import optuna


@contextmanager
def quiet() -> Iterator[None]:
    """None of Optuna's log lines, and notes on experimental features and lists as categories."""
    before = optuna.logging.get_verbosity()
    if before < optuna.logging.ERROR:
        # Not without need: to set a level empties the caches of all loggers, a millisecond each.
        optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # Lists are kept as JSON, which is all that a study in a store needs.
            warnings.filterwarnings("ignore", "Choices for a categorical distribution")
            yield
    finally:
        if before < optuna.logging.ERROR:
            optuna.logging.set_verbosity(before)
