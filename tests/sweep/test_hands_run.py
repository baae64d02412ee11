"""A real sweep on a real local Ray, with another hand at it while it runs."""

from __future__ import annotations

import pytest

from raffect.errors import NotThereError
from raffect.settings import flatten
from raffect.store import Store
from raffect.store.layout import MODEL_WEIGHTS, SUMS, trial_folder
from raffect.sweep import hands
from raffect.sweep.leaderboard import load_sweep
from raffect.sweep.progress import SweepProgress
from raffect.sweep.records import model_folder_of
from raffect.sweep.retrain import plan_retraining
from raffect.temporal.inference import load_bundle
from tests.sweep.sweeps import sweep

pytestmark = [pytest.mark.ray, pytest.mark.long]


def test_trials_are_added_and_ended_while_a_sweep_runs(
    ray_local: None, filled: Store, space: str
) -> None:
    other = Store(filled.uri)
    did: list[str] = []

    def act(progress: SweepProgress) -> None:
        if progress.event == "epoch" and progress.trial == 1 and not did:
            assert hands.driver_of(other, "s") is not None
            did.append("stop")
            hands.stop(other, "s", [1])
            number, _ = hands.enqueue(other, "s", {"optimiser.lr": 2e-3})
            did.append(str(number))

    view = sweep(filled, space, 4, on_update=act, keep_models=2, pruning="none")
    assert did == ["stop", "2"]
    rows = {row.number: row for row in view.rows}
    assert sorted(rows) == [0, 1, 2, 3]
    assert [rows[n].state for n in range(4)] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert rows[1].reason.startswith("stopped: by hand")
    assert rows[2].params == {"optimiser.lr": 2e-3}
    described = filled.read_json(f"{model_folder_of(rows[2])}/config.json")["config"]
    assert flatten(described)["optimiser.lr"] == 2e-3

    # Of three trials with models the two best keep theirs.
    *kept, worst = [row for row in view.rows if row.model]
    for row in kept:
        load_bundle(filled, model_folder_of(row))
    with pytest.raises(NotThereError, match=rf"raffect retrain s:{worst.number} --seeds 1"):
        load_bundle(filled, model_folder_of(worst))
    assert plan_retraining(filled, f"s:{worst.number}").row.number == worst.number
    assert view.manifest is not None
    listed = {entry.name for entry in view.manifest.files}
    stored = {key.removeprefix("sweeps/s/") for key in filled.files("sweeps/s")}
    assert listed <= stored
    assert sum(name.endswith(MODEL_WEIGHTS) for name in stored) == 2
    assert filled.exists(f"{model_folder_of(worst)}/{SUMS}")

    # Fewer, of a sweep that is finished; and a trial that is added to one is taken by the next.
    hands.enqueue(other, "s", {"optimiser.lr": 3e-3})
    again = sweep(filled, space, 4, keep_models=1, pruning="none")
    assert [row.state for row in load_sweep(filled, "s").rows].count("COMPLETE") == 4
    assert again.best is not None
    left = [key for key in filled.files("sweeps/s") if key.endswith(MODEL_WEIGHTS)]
    assert left == [f"{trial_folder('s', again.best.number)}/{MODEL_WEIGHTS}"]
