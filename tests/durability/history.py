"""The order in which a sweep's study came about, read from its journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from optuna.storages.journal._storage import JournalOperation

from raffect.store import Store
from raffect.sweep.records import TrialRow, is_compared_with
from raffect.sweep.study import journal_of
from tests.durability import driver
from tests.sweep.test_study import Asha

_RUNG = "completed_rung_"
_EPOCH = "epoch."


def repeated_epochs(store: Store) -> list[str]:
    """Epochs that were written more than once, whatever they say."""
    written: Counter[tuple[int, str]] = Counter()
    for entry in journal_of(store, driver.SWEEP).read_logs(0):
        if entry["op_code"] == JournalOperation.SET_TRIAL_USER_ATTR:
            keys = [key for key in entry["user_attr"] if key.startswith(_EPOCH)]
            written.update((entry["trial_id"], key) for key in keys)
    return [f"trial {trial}: {key} {n} times" for (trial, key), n in written.items() if n > 1]


def wrong_comparisons(store: Store, rows: Mapping[int, TrialRow]) -> list[str]:
    """Decisions that successive halving, told the same values in the same order, makes otherwise.

    All commands' values lie in one journal, so that rungs which a new command had forgotten show.
    """
    oracle = Asha(driver.FIRST_RUNG, driver.FACTOR)
    stopped: dict[int, int] = {}
    met: Counter[tuple[int, int]] = Counter()
    found = []
    for trial, rung, value in _comparisons(store):
        epoch = driver.FIRST_RUNG * driver.FACTOR**rung
        met[trial, epoch] += 1
        best = max((of.score for of in rows[trial].curve[:epoch]), default=None)
        if best != value:
            found.append(f"trial {trial} was compared with {value} at epoch {epoch}, not {best}")
        # The recipe has its rungs met as any trial, and goes on whatever they say.
        if oracle.stops(epoch, value) and not is_compared_with(rows[trial].attributes):
            stopped[trial] = epoch
    ends = {row.number: row.epochs for row in rows.values() if row.state == "PRUNED"}
    found += [
        f"trial {trial} ended at epoch {ends.get(trial)}, by the rule at {stopped.get(trial)}"
        for trial in sorted({*ends, *stopped})
        if ends.get(trial) != stopped.get(trial)
    ]
    return found + _unmet(met, rows)


def _comparisons(store: Store) -> list[tuple[int, int, float]]:
    """Trial, rung and value of each comparison, in the order in which they were made."""
    found = []
    for entry in journal_of(store, driver.SWEEP).read_logs(0):
        if entry["op_code"] == JournalOperation.SET_TRIAL_SYSTEM_ATTR:
            for key, value in entry["system_attr"].items():
                if key.startswith(_RUNG):
                    found.append((entry["trial_id"], int(key.removeprefix(_RUNG)), value))
    return found


def _unmet(met: Mapping[tuple[int, int], int], rows: Mapping[int, TrialRow]) -> list[str]:
    """Rungs that a trial passed without a comparison, or that compared it twice."""
    rungs = driver.settings("").rungs(driver.EPOCHS)
    return [
        f"trial {row.number} was compared {met[row.number, rung]} times at epoch {rung}"
        for row in rows.values()
        for rung in rungs
        if row.state != "FAIL" and row.epochs >= rung and met[row.number, rung] != 1
    ]
