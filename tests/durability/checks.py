"""What must hold of a sweep that was hit and finished, against what it was when it was hit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from raffect.affwild2.evaluation import evaluate
from raffect.affwild2.labels import load_labels
from raffect.affwild2.tasks import Split
from raffect.store import Store, read_manifest, sweep_folder
from raffect.store.layout import CONFIG, METRICS, MODEL_WEIGHTS, SUMS, trial_folder
from raffect.store.manifest import FileEntry, has_manifest
from raffect.sweep.leaderboard import load_sweep
from raffect.sweep.records import TrialRow
from raffect.temporal.inference import load_bundle, predict_split
from tests.durability import driver, history
from tests.durability.command import Event
from tests.durability.state import ENDS, Moment, facts

_CLOSE = 1e-9
"""Between the leaderboard's score and that of the stored model, computed in other batches."""


@dataclass
class Verdict:
    """How a sweep came out, in numbers that should be 0, and in words for those that are not.

    Attributes:
        lost: Trials that had ended, or were said to have, and are not there as they were.
        doubled: Sets of parameters that occur again.
        running: Rows that are still RUNNING or WAITING.
        budgets: Trials with other epochs than their state allows, or with one recorded twice.
        rungs: Comparisons that are not those of successive halving.
        failed: Trials that ended as FAIL.
        files: Models that are missing, don't verify, or don't give the leaderboard's score.
        checkpointed: Running trials that had a whole checkpoint when it happened.
        resumed: Those of them whose training went on from it.
        problems: One line for each of the above that is wrong.
    """

    lost: int = 0
    doubled: int = 0
    running: int = 0
    budgets: int = 0
    rungs: int = 0
    failed: int = 0
    files: int = 0
    checkpointed: int = 0
    resumed: int = 0
    problems: list[str] = field(default_factory=list)

    def count(self, problems: Sequence[str]) -> int:
        """Note problems; returns how many there are."""
        self.problems += problems
        return len(problems)


def check(store: Store, hit: Moment, told: Sequence[Event]) -> Verdict:
    """Compare a finished sweep with what it was.

    Args:
        store: The store.
        hit: The sweep when it was hit.
        told: What the command had said until then.
    """
    rows = {row.number: row for row in load_sweep(store, driver.SWEEP).rows}
    verdict = Verdict(checkpointed=len(hit.checkpoints))
    verdict.lost = verdict.count([*_lost(rows, hit), *_unkept(rows, told)])
    verdict.doubled = verdict.count(_doubled(rows))
    verdict.running = verdict.count(
        [f"trial {row.number} is {row.state}" for row in rows.values() if row.state not in ENDS]
    )
    verdict.failed = verdict.count(
        [f"trial {row.number}: {row.reason}" for row in rows.values() if row.state == "FAIL"]
    )
    verdict.budgets = verdict.count([*_budgets(rows), *history.repeated_epochs(store)])
    verdict.rungs = verdict.count(history.wrong_comparisons(store, rows))
    verdict.files = verdict.count(wrong_files(store, rows))
    restarted = _restarted(store, hit)
    verdict.resumed = verdict.checkpointed - verdict.count(restarted)
    return verdict


def _lost(rows: dict[int, TrialRow], hit: Moment) -> list[str]:
    now = {number: facts(row) for number, row in rows.items()}
    return [
        f"trial {number} was {before[:3]}, now {now.get(number, ())[:3]}"
        for number, before in hit.finished.items()
        if now.get(number) != before
    ]


def _unkept(rows: dict[int, TrialRow], told: Sequence[Event]) -> list[str]:
    """Ends that the command had told, and that are none now."""
    ends = {event.trial: (event.state, event.epoch) for event in told if event.kind == "finished"}
    now = {number: (row.state, row.epochs) for number, row in rows.items()}
    return [
        f"trial {number} was said to be {end}, is {now.get(number)}"
        for number, end in ends.items()
        if now.get(number) != end
    ]


def _doubled(rows: dict[int, TrialRow]) -> list[str]:
    """The space is continuous: the same values twice are the same trial twice."""
    found = Counter(tuple(sorted(row.params.items())) for row in rows.values())
    twice = [f"{n} trials have {params}" for params, n in found.items() if n > 1]
    wrong = sorted(rows) != list(range(driver.TRIALS))
    return [*twice, f"trials are {sorted(rows)}"] if wrong else twice


def _budgets(rows: dict[int, TrialRow]) -> list[str]:
    rungs = driver.settings("").rungs(driver.EPOCHS)
    allowed = {"COMPLETE": (driver.EPOCHS,), "PRUNED": rungs}
    found = []
    for row in rows.values():
        epochs = [epoch.epoch for epoch in row.curve]
        exact = epochs == list(range(1, len(epochs) + 1))
        if row.state in allowed and not (exact and len(epochs) in allowed[row.state]):
            found.append(f"trial {row.number} is {row.state} with epochs {epochs}")
    return found


def wrong_files(store: Store, rows: dict[int, TrialRow]) -> list[str]:
    """Files that are missing, left over, or not what the manifest and the leaderboard say."""
    folder = sweep_folder(driver.SWEEP)
    if not has_manifest(store, folder):
        return ["there is no manifest"]
    entries = read_manifest(store, folder).files
    keys = {f"{folder}/{entry.name}": entry for entry in entries}
    found = [
        f"{key} is not what the manifest says"
        for key, entry in keys.items()
        if not store.exists(key) or FileEntry.of(entry.name, store.read_bytes(key)) != entry
    ]
    scored = [row for row in rows.values() if row.model]
    wanted = {
        f"{trial_folder(driver.SWEEP, row.number)}/{f}"
        for row in scored
        for f in (MODEL_WEIGHTS, SUMS, CONFIG, METRICS)
    }
    left = set(store.files(f"{folder}/trials"))
    found += [f"{key} is not in the manifest" for key in sorted(wanted - set(keys))]
    found += [f"{key} is left over" for key in sorted(left - wanted)]
    return found + [problem for row in scored for problem in _model(store, row)]


def _model(store: Store, row: TrialRow) -> list[str]:
    """The stored model gives the score of the leaderboard."""
    labels = load_labels(store, driver.TASK)
    try:
        bundle = load_bundle(store, trial_folder(driver.SWEEP, row.number))
    except Exception as error:
        return [f"the model of trial {row.number} can't be loaded: {error}"]
    predicted = {one.video: one for one in predict_split(store, bundle, Split.VALIDATION)}
    wanted = {name: of for name, of in labels.items() if of.split is Split.VALIDATION}
    score = evaluate(driver.TASK, predicted, wanted).score
    if row.score is not None and abs(score - row.score) < _CLOSE:
        return []
    return [f"the model of trial {row.number} scores {score}, the leaderboard says {row.score}"]


def _restarted(store: Store, hit: Moment) -> list[str]:
    """Trials whose model has other epochs than the checkpoint that was there.

    An epoch's seconds are in the checkpoint and in the model: an epoch that was trained again has
    others.
    """
    found = []
    for number, before in hit.checkpoints.items():
        key = f"{trial_folder(driver.SWEEP, number)}/{METRICS}"
        epochs = store.read_json(key)["history"] if store.exists(key) else []
        now = tuple(epoch["seconds"] for epoch in epochs)[: len(before)]
        if now != before:
            found.append(
                f"trial {number} did not go on from its checkpoint of epoch {len(before)}"
            )
    return found
