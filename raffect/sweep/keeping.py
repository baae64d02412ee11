"""`--keep-models K`: of a sweep's own trials only the K best keep their weights.

What tables, intervals and `raffect retrain` read stays: settings, metrics and sums per video.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from raffect.store import Store
from raffect.store.layout import MODEL_WEIGHTS, REMOVED, TRIALS, sweep_folder, trial_folder
from raffect.sweep.attributes import FINISHED
from raffect.sweep.records import TrialRow, rank


@dataclass
class Keeper:
    """Removes weights as trials end; keeps all where `most` is None."""

    store: Store
    sweep: str
    most: int | None
    best: list[TrialRow] = field(default_factory=list)

    def take(self, row: TrialRow) -> None:
        """A trial has ended."""
        if self.most is None or row.origin is not None or row.state not in FINISHED:
            return
        out = [row]
        if row.model is not None:
            insort(self.best, row, key=rank)
            out = self.best[self.most :]
            del self.best[self.most :]
        for one in out:
            if _records_weights(one):
                self.remove(one)

    def remove(self, row: TrialRow) -> None:
        """Say first that the weights are removed: they are never just missing."""
        folder = trial_folder(self.sweep, row.number)
        if _records_weights(row):
            self.store.write_json(f"{folder}/{REMOVED}", {"keep_models": self.most})
        self.store.delete_keys([f"{folder}/{MODEL_WEIGHTS}"])


def removable(
    store: Store, sweep: str, rows: Iterable[TrialRow], most: int | None
) -> list[TrialRow]:
    """Trials whose weights are there and need not be: those beyond the best, if not all are kept.

    And those that a failed trial's process wrote after the study had its end, which nothing
    records.
    """
    own = [row for row in rows if row.origin is None and row.state in FINISHED]
    if most is None:
        rest = [row for row in own if row.state == "FAIL" and not _records_weights(row)]
    else:
        best = sorted((row for row in own if row.model is not None), key=rank)[:most]
        kept = {row.number for row in best}
        rest = [row for row in own if row.number not in kept]
    if not rest:
        return []
    weights = set(store.files(f"{sweep_folder(sweep)}/{TRIALS}"))
    return [row for row in rest if f"{trial_folder(sweep, row.number)}/{MODEL_WEIGHTS}" in weights]


def _records_weights(row: TrialRow) -> bool:
    return any(str(entry["name"]).endswith(MODEL_WEIGHTS) for entry in row.files)


def without_removed(row: TrialRow, files: Sequence[str]) -> list[dict[str, object]]:
    """A trial's files for the manifest; `files` are all keys below the sweep's trials."""
    marker = f"{TRIALS}/{row.number:05d}/{REMOVED}"
    removed = any(key.endswith(marker) for key in files)
    return [
        dict(entry)
        for entry in row.files
        if not (removed and str(entry["name"]).endswith(MODEL_WEIGHTS))
    ]
