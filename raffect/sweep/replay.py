"""Optuna's replay of a journal, quick where trials were condensed (entries.py).

Of 10,000 trials almost all entries are blank or say a whole trial. Optuna's own replay takes 1.5 s
for these, most of it for the ranges of parameters, which are the same in each trial.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages.journal._base import BaseJournalSnapshot
from optuna.storages.journal._storage import JournalStorageReplayResult

from raffect.sweep.entries import NOTHING

_range: Any = lru_cache(maxsize=4096)(json_to_distribution)


class Replay(JournalStorageReplayResult):
    """What entries make of a study: the same as Optuna's, which holds the trials."""

    def apply_logs(self, logs: Iterable[Any]) -> None:
        """Take in the entries that follow."""
        blank = 0

        def said() -> Iterator[Any]:
            nonlocal blank
            for entry in logs:
                if entry is NOTHING:
                    blank += 1
                else:
                    yield entry

        try:
            super().apply_logs(said())
        finally:
            # Optuna reads on from this number, also after an entry that it refused.
            self.log_number_read += blank

    def _apply_create_trial(self, log: Any) -> None:
        before = len(self._trials)
        params, texts = log.pop("params", {}), log.pop("distributions", {})
        super()._apply_create_trial(log)
        if params and len(self._trials) > before:
            ranges: dict[str, BaseDistribution] = {key: _range(of) for key, of in texts.items()}
            trial = self._trials[before]
            trial.params = {key: ranges[key].to_external_repr(of) for key, of in params.items()}
            trial.distributions = ranges


class Replayed(BaseJournalSnapshot):
    """A journal whose replay that is."""

    def load_snapshot(self) -> bytes:
        """What Optuna begins with: nothing, but of the quick class."""
        return pickle.dumps(Replay(""))

    def save_snapshot(self, snapshot: bytes) -> None:
        """Nothing: the journal is its own, by compactions."""
