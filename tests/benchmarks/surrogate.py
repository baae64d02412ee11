"""Learning curves without training: trees fitted to recorded trials of VA's space."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, cross_val_predict

from tests.benchmarks.record_trials import FILE

_LOG = ("optimiser.lr", "optimiser.weight_decay")
_FOLDS = KFold(10, shuffle=True, random_state=0)
_ABSENT = -1.0
"""Of a parameter that the trial's branch of the space leaves out."""


class Surrogate:
    """Scores per epoch of any point of the space; the same point gives the same curve.

    Extremely randomised trees over parameters, one output per epoch: they need no scaling, take
    conditional parameters as they are, and pass through what was recorded, never beyond.
    """

    def __init__(self) -> None:
        table = pd.read_csv(FILE).dropna(subset=["epoch.01"])
        scores = [name for name in table.columns if name.startswith("epoch.")]
        self.names = [name for name in table.columns if name not in ("number", *scores)]
        self.recorded: NDArray[np.float64] = table[scores].ffill(axis=1).to_numpy(np.float64)
        self._points = [self._encode(row) for row in table[self.names].to_dict("records")]
        self._trees = ExtraTreesRegressor(300, max_features=0.7, random_state=0)
        self._trees.fit(self._points, self.recorded)

    def curves(self, points: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Scores `(points, epochs)`."""
        found: NDArray[np.float64] = self._trees.predict([self._encode(each) for each in points])
        return found

    def describe(self) -> str:
        """How well it foretells trials that it was not fitted to."""
        held_out = cross_val_predict(self._trees, self._points, self.recorded, cv=_FOLDS)
        r2 = r2_score(self.recorded[:, -1], held_out[:, -1])
        rank = spearmanr(held_out.max(axis=1), self.recorded.max(axis=1)).statistic
        return (
            f"{len(self.recorded)} recorded trials, best {self.recorded.max():.3f}; held out: R2 "
            f"{r2:.2f} of last scores, rank correlation {rank:.2f} of best scores"
        )

    def _encode(self, params: Mapping[str, Any]) -> list[float]:
        values = []
        for name in self.names:
            value = params.get(name)
            if value is None or math.isnan(value):
                values.append(_ABSENT)
            else:
                values.append(math.log10(value) if name in _LOG else float(value))
        return values
