"""Whole sweeps on a local Ray, with trials of hundredths of a second."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from raffect.affwild2.evaluation import evaluate
from raffect.affwild2.labels import load_labels
from raffect.affwild2.tasks import Split, Task
from raffect.errors import ConflictError, NotThereError, RaffectError, SettingsError, StoreError
from raffect.store import Store
from raffect.store.layout import trial_folder
from raffect.sweep.attributes import State
from raffect.sweep.leaderboard import SweepView, list_sweeps, load_sweep
from raffect.sweep.progress import SweepProgress
from raffect.sweep.records import Maker, TrialRow
from raffect.sweep.settings import SweepSettings
from raffect.sweep.trial import TrialHome
from raffect.sweep.tune import lost_trials, tune
from raffect.temporal.data import load_task_data
from raffect.temporal.inference import load_bundle, predict_split
from raffect.temporal.linear import linear_floor
from raffect.temporal.training import Trainer
from tests.sweep import tiny
from tests.sweep.sweeps import SPACE, sweep

pytestmark = pytest.mark.ray

# Trials 1, 2 and 3 fail each in their own way; the rest are as above.
FAILING = """
def space(trial):
    lr = trial.suggest_float("optimiser.lr", 1e-4, 1e35, log=True)
    heads = trial.suggest_categorical("model.transformer.heads", [2, 3])
    layers = trial.suggest_int("model.transformer.layers", 0, 1)
    changes = {"optimiser.lr": min(lr, 1e-2), "model.transformer.heads": 2,
               "model.transformer.layers": 0}
    if trial.number == 1:
        changes["optimiser.lr"] = 1e35
    elif trial.number == 2:
        changes |= {"model.transformer.heads": 3, "model.transformer.layers": 1}
    elif trial.number == 3:
        changes["model.tcn.depth"] = 65
    return changes
"""


def finished(view: SweepView) -> dict[int, tuple[str, float | None, int]]:
    return {row.number: (row.state, row.score, row.epochs) for row in view.rows}


def test_a_sweep_from_start_to_extension(ray_local: None, filled: Store, space: str) -> None:
    events: list[SweepProgress] = []
    view = sweep(filled, space, 6, on_update=events.append, concurrent=2)

    assert [row.number for row in view.rows if row.attributes.get("recipe")] == [0]
    assert view.target == 6
    assert view.manifest is not None
    assert sum(view.counts.values()) == 6
    assert set(view.counts) <= {"COMPLETE", "PRUNED"}
    assert [row.score for row in view.rows] == sorted(
        (row.score for row in view.rows if row.score is not None), reverse=True
    )
    for row in view.rows:
        assert row.epochs == 4 if row.state == "COMPLETE" else row.epochs in (1, 3)
        assert row.score == max(epoch.score for epoch in row.curve)
        assert set(row.curve[0].parts) == {"valence", "arousal"}
        assert row.parameters
        assert {"config_hash", "seed", "host"} <= set(row.attributes)
        assert ("latency_ms" in row.attributes) == (row.state == "COMPLETE")
    floor = linear_floor(load_task_data(filled, "clip", Task.VA)).score
    assert view.linear_floor is not None
    assert (view.linear_floor["score"], view.linear_floor["parts"]) == (floor.value, floor.parts)
    ends = [event.trial for event in events if event.event == "finished"]
    assert sorted(ends) == [0, 1, 2, 3, 4, 5]
    assert events[-1].finished == 6
    epochs = [(e.trial, e.epoch) for e in events if e.event == "epoch"]
    assert len(epochs) == len(set(epochs))

    # Every trial's model predicts what the leaderboard says, whether it was pruned or not.
    labels = load_labels(filled, Task.VA)
    wanted = {name: of for name, of in labels.items() if of.split is Split.VALIDATION}
    for row in view.rows:
        bundle = load_bundle(filled, trial_folder("s", row.number))
        predicted = {p.video: p for p in predict_split(filled, bundle, Split.VALIDATION)}
        assert evaluate(Task.VA, predicted, wanted).score == pytest.approx(row.score, abs=1e-9)

    # Nothing but models is left, and the study lies in one object.
    left = {Path(key).name for key in filled.files("sweeps/s/trials")}
    assert left == {"model.safetensors", "config.json", "metrics.json", "sums.parquet"}
    assert len(filled.names("sweeps/s/study")) == 1

    # The same command again does nothing, a smaller one neither.
    before = finished(view)
    again: list[SweepProgress] = []
    assert finished(sweep(filled, space, 6, on_update=again.append)) == before
    assert finished(sweep(filled, space, 2, on_update=again.append)) == before
    assert again == []

    # A larger one extends, and keeps what is there.
    larger = sweep(filled, space, 8)
    assert len(larger.rows) == 8
    assert {n: of for n, of in finished(larger).items() if n < 6} == before
    assert larger.manifest is not None
    assert larger.manifest.counts["trials"] == 8
    assert [view.name for view in list_sweeps(filled)] == ["s"]

    # Other settings under the same name are refused with what differs.
    with pytest.raises(ConflictError, match=r"base\.optimiser\.epochs: 4 -> 5"):
        sweep(filled, space, 8, base=tiny.base(optimiser__epochs=5))
    Path(space).write_text(SPACE.replace("1e-2", "2e-2"))
    with pytest.raises(ConflictError, match=r"(?s)space\.code.*space\.ranges\.optimiser\.lr"):
        sweep(filled, space, 8)
    Path(space).write_text(f"# a remark\n{SPACE}")
    assert len(sweep(filled, space, 8).rows) == 8


def test_a_trial_is_the_plain_loop(ray_local: None, filled: Store, space: str) -> None:
    view = sweep(filled, space, 1)
    trainer = Trainer(tiny.base(), load_task_data(filled, "clip", Task.VA))
    for _ in range(4):
        trainer.run_epoch()
    curve = [(epoch.loss, epoch.score) for epoch in view.rows[0].curve]
    assert curve == [(epoch.loss, epoch.score) for epoch in trainer.history]


def test_failures_are_told_apart_and_end_nothing(
    ray_local: None, filled: Store, tmp_path: Path
) -> None:
    path = tmp_path / "failing.py"
    path.write_text(FAILING)
    view = sweep(filled, str(path), 6, pruning="none")
    states = {row.number: row.state for row in view.rows}
    assert states == {0: "COMPLETE", 1: "FAIL", 2: "FAIL", 3: "FAIL", 4: "COMPLETE", 5: "COMPLETE"}
    reasons = {row.number: row.reason for row in view.rows if row.reason}
    assert reasons[1].startswith("nan")
    assert reasons[2].startswith("bad-config: These settings do not go together")
    assert reasons[3].startswith("bad-config: These settings are wrong: model.tcn.depth = 65")
    assert [row.number for row in view.rows][-3:] == [1, 2, 3]
    assert all(row.model is None and row.score is None for row in view.rows[-3:])
    assert view.manifest is not None
    assert set(view.manifest.notes["failures"]) == {"1", "2", "3"}


def test_a_sweep_in_which_every_trial_fails_says_why(
    ray_local: None, filled: Store, space: str
) -> None:
    base = tiny.base(optimiser__warmup_epochs=0, losses__mse_share=1.0, optimiser__lr=1e-3)
    path = Path(space)
    path.write_text(
        "def space(trial):\n"
        "    lr = trial.suggest_float('optimiser.lr', 1e-4, 1e-2)\n"
        "    return {'optimiser.lr': lr} if trial is not None and not hasattr(trial, 'study')"
        " else {'optimiser.lr': 1e35}\n"
    )
    with pytest.raises(RaffectError, match=r"All 3 trials .*failed:\n  3 x nan") as caught:
        sweep(filled, space, 20, base=base, max_failures=3, concurrent=1)
    assert "--overwrite" in caught.value.next_step
    view = load_sweep(filled, "s")
    assert view.counts == {"FAIL": 3}
    assert view.manifest is None


def test_a_lost_process_is_replaced_and_the_trial_goes_on(
    ray_local: None, filled: Store, space: str
) -> None:
    killed: list[int] = []
    epochs: list[tuple[int, int]] = []

    def kill_once(progress: SweepProgress) -> None:
        if progress.event == "epoch":
            epochs.append((progress.trial, progress.epoch))
        if progress.event == "epoch" and progress.epoch == 2 and not killed:
            killed.extend(own_trial_processes())
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    view = sweep(
        filled, space, 2, on_update=kill_once, pruning="none", concurrent=1, checkpoint_seconds=0
    )
    assert len(killed) == 1
    assert view.counts == {"COMPLETE": 2}
    assert all([e.epoch for e in row.curve] == [1, 2, 3, 4] for row in view.rows)
    # From the checkpoint of epoch 2, not from the start.
    assert epochs == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]


@pytest.mark.long
def test_a_process_that_is_worn_runs_no_other_trial(
    ray_local: None, filled: Store, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raffect.sweep.trial.TrialHome", partial(TrialHome, most_trials=2))
    ran: dict[int, list[int]] = {}

    def note(progress: SweepProgress) -> None:
        if progress.event == "epoch" and progress.epoch == 2:
            ran[progress.trial] = own_trial_processes()

    view = sweep(filled, space, 3, on_update=note, pruning="none", concurrent=1)
    assert view.counts == {"COMPLETE": 3}
    assert ran[0] == ran[1]
    assert len(ran[0]) == 1
    assert not set(ran[2]) <= set(ran[0])


LOST = "lost-actor: The actor died unexpectedly"


@pytest.mark.parametrize(
    ("trials", "again"),
    [
        ([], []),
        ([("FAIL", LOST, 0.1), ("FAIL", "stuck: no epoch for 18 s", 0.2)], [0, 1]),
        # Tried again and lost again; tried again and waiting.
        ([("FAIL", LOST, 0.1), ("FAIL", LOST, 0.1)], [1]),
        ([("FAIL", LOST, 0.1), ("FAIL", LOST, 0.2), ("WAITING", None, 0.1)], [1]),
        # Where some end, the lost ones count as any failure does.
        ([("FAIL", LOST, 0.1), ("COMPLETE", None, 0.2)], []),
        ([("FAIL", LOST, 0.1), ("FAIL", "nan: loss", 0.2)], []),
    ],
)
def test_lost_trials_are_tried_again_where_no_other_ended(
    trials: list[tuple[State, str | None, float]], again: list[int]
) -> None:
    rows = [
        TrialRow(
            number, state, None, 0, 0.0, {"optimiser.lr": lr}, reason, None, None, (), None, {}
        )
        for number, (state, reason, lr) in enumerate(trials)
    ]
    assert [one.number for one in lost_trials(rows)] == again


@pytest.mark.long
def test_a_sweep_whose_trials_were_all_lost_goes_on_when_given_again(
    ray_local: None, filled: Store, space: str
) -> None:
    def kill(progress: SweepProgress) -> None:
        if progress.event == "epoch":
            for pid in own_trial_processes():
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(RaffectError, match=r"1 trial of .*failed:\n  1 x lost-actor") as caught:
        sweep(filled, space, 1, on_update=kill)
    assert "run the same command again" in caught.value.next_step
    told: list[str] = []
    view = sweep(filled, space, 1, on_note=told.append)
    lost, again = sorted(view.rows, key=lambda row: row.number)
    assert (lost.state, again.state) == ("FAIL", "COMPLETE")
    assert again.params == lost.params
    assert again.attributes["recipe"]
    assert any(line.startswith("The sweep's only trial was lost") for line in told)
    assert sweep(filled, space, 1).rows == view.rows


def own_trial_processes() -> list[int]:
    """Processes of trials below this one."""
    return own_processes(b"SweepTrial")


def own_processes(name: bytes) -> list[int]:
    """Processes below this one with a name; other sessions of this machine have theirs."""
    parents, titles = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (folder / "stat").read_text().rsplit(")")[-1].split()
                parents[int(folder.name)] = int(stat[1])
                titles[int(folder.name)] = (folder / "cmdline").read_bytes()

    def is_own(pid: int) -> bool:
        while pid > 1 and pid != os.getpid():
            pid = parents.get(pid, 0)
        return pid == os.getpid()

    return [pid for pid, title in titles.items() if name in title and is_own(pid)]


def test_a_store_that_fails_in_mid_sweep_ends_it_with_its_message(
    ray_local: None, filled: Store, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = filled.create
    calls = []

    def failing(key: str, data: bytes) -> bool:
        calls.append(key)
        if len(calls) > 6:
            raise StoreError("The server does not answer.")
        return create(key, data)

    monkeypatch.setattr(filled, "create", failing)
    with pytest.raises(StoreError, match="does not answer"):
        sweep(filled, space, 4)
    monkeypatch.undo()
    view = sweep(filled, space, 4)
    assert len(view.rows) == 4
    assert not {"RUNNING", "WAITING"} & set(view.counts)


def test_a_store_that_fails_in_a_trials_process_ends_the_sweep_and_fails_no_trial(
    ray_local: None, filled: Store, space: str
) -> None:
    sweep(filled, space, 1)
    # In the place of the folder that the trial's model goes to.
    filled.write_bytes("sweeps/s/trials/00001", b"")
    with pytest.raises(StoreError, match="trials/00001"):
        sweep(filled, space, 3)
    filled.delete("sweeps/s/trials/00001")
    view = sweep(filled, space, 3)
    assert len(view.rows) == 3
    assert not {"RUNNING", "WAITING", "FAIL"} & set(view.counts)


@pytest.mark.parametrize(
    "sent",
    [
        signal.SIGKILL,
        pytest.param(signal.SIGTERM, marks=pytest.mark.long),
        pytest.param(signal.SIGINT, marks=pytest.mark.long),
        pytest.param(signal.SIGHUP, marks=pytest.mark.long),
    ],
)
def test_a_killed_driver_is_followed_by_one_that_loses_and_doubles_nothing(
    ray_local: None, filled: Store, space: str, sent: signal.Signals
) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-m", "tests.sweep.tiny", filled.uri, space, "12"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert driver.stdout is not None
    ends: dict[int, str] = {}
    for line in driver.stdout:
        event, trial, epoch, state = line.split()
        if event == "finished":
            ends[int(trial)] = state
        if len(ends) >= 3 and event == "epoch" and int(epoch) >= 1:
            break
    driver.send_signal(sent)
    _, complaints = driver.communicate()
    killed = sent is signal.SIGKILL
    assert driver.returncode == (-sent if killed else 128 + sent)
    assert ("to leave now" in complaints) != killed
    assert "Traceback" not in complaints

    left = load_sweep(filled, "s")
    assert left.manifest is None
    assert left.counts.get("RUNNING", 0) >= 1
    before = {n: of for n, of in finished(left).items() if of[0] in ("COMPLETE", "PRUNED")}
    assert set(ends) <= set(before)

    view = sweep(filled, space, 12, checkpoint_seconds=0)
    after = finished(view)
    assert len(after) == 12
    assert set(view.counts) <= {"COMPLETE", "PRUNED"}
    assert {n: after[n] for n in before} == before
    for row in view.rows:
        assert [epoch.epoch for epoch in row.curve] == list(range(1, row.epochs + 1))
    files = {Path(key).name for key in filled.files("sweeps/s/trials")}
    assert files == {"model.safetensors", "config.json", "metrics.json", "sums.parquet"}


def test_what_is_missing_is_said_before_anything_starts(store: Store, space: str) -> None:
    with pytest.raises(NotThereError):
        sweep(store, space, 2)
    tiny.fill(store)
    with pytest.raises(SettingsError, match="There is no module"):
        sweep(store, "tune_spaces.nothing", 2)
    with pytest.raises(NotThereError, match="holds no sweep"):
        load_sweep(store, "s")
    assert list_sweeps(store) == []


def test_auxiliary_losses_need_labels(ray_local: None, store: Store) -> None:
    tiny.fill(store, (Task.EXPR, Task.VA))
    with pytest.raises(NotThereError, match="no training labels of au"):
        tune(store, Task.EXPR, "clip", "j", SweepSettings(space="tune_spaces.expr_joint"),
             tiny.base(Task.EXPR))  # fmt: skip


@pytest.mark.long
def test_auxiliary_losses_are_those_of_the_space(ray_local: None, store: Store) -> None:
    tiny.fill(store)
    settings = SweepSettings(space="tune_spaces.expr_joint", trials=2, concurrent=2)
    view = tune(store, Task.EXPR, "clip", "joint", settings, tiny.base(Task.EXPR))
    assert "losses.auxiliary.au" in view.rows[0].params
    config = store.read_json(f"{trial_folder('joint', 1)}/config.json")
    params = next(row.params for row in view.rows if row.number == 1)
    assert config["config"]["losses"]["auxiliary"]["va"] == params["losses.auxiliary.va"]


@pytest.mark.long
def test_trials_on_several_workers(ray_local: None, filled: Store, space: str) -> None:
    """Dashboard off, more trials than places, pruning: what stalls an inner run of its own."""
    # Trial 1 learns nothing, and is stopped at the first rung with its workers on the way.
    slow_first = SPACE.replace("lr}", "1e-7 if trial.number == 1 else lr}")
    Path(space).write_text(slow_first)
    base = tiny.base(optimiser__lr=1e-2)
    view = sweep(filled, space, 2, base=base, workers_per_trial=2, checkpoint_seconds=0)
    assert [(row.number, row.state) for row in view.rows] == [(0, "COMPLETE"), (1, "PRUNED")]
    assert view.rows[1].epochs == 1
    labels = load_labels(filled, Task.VA)
    for row in view.rows:
        assert row.makers == (Maker.here(2),)
        assert [epoch.epoch for epoch in row.curve] == list(range(1, row.epochs + 1))
        bundle = load_bundle(filled, trial_folder("s", row.number))
        predicted = {p.video: p for p in predict_split(filled, bundle, Split.VALIDATION)}
        wanted = {name: of for name, of in labels.items() if name in predicted}
        assert evaluate(Task.VA, predicted, wanted).score == pytest.approx(row.score, abs=1e-6)


@pytest.mark.long
def test_trials_whose_workers_hold_their_share_of_the_videos(
    ray_local: None, filled: Store, space: str
) -> None:
    view = sweep(filled, space, 1, workers_per_trial=2, shard_features=True)
    # Given again without a word about it, the sweep is the same.
    assert finished(sweep(filled, space, 1)) == finished(view)
    (row,) = view.rows
    bundle = load_bundle(filled, trial_folder("s", 0))
    assert bundle.config.optimiser.shards == 2
    predicted = {p.video: p for p in predict_split(filled, bundle, Split.VALIDATION)}
    wanted = {n: of for n, of in load_labels(filled, Task.VA).items() if n in predicted}
    assert evaluate(Task.VA, predicted, wanted).score == pytest.approx(row.score, abs=1e-6)
    with pytest.raises(ConflictError, match=r"base\.optimiser\.shards: 2 -> null"):
        sweep(filled, space, 1, workers_per_trial=2, shard_features=False)


def test_workers_with_shares_of_gpus_are_refused(
    ray_local: None, filled: Store, space: str
) -> None:
    with pytest.raises(SettingsError, match=r"0\.5 GPUs and 2 workers"):
        sweep(filled, space, 2, gpus_per_trial=0.5, workers_per_trial=2)


def test_gpus_that_are_not_there_are_refused(ray_local: None, filled: Store, space: str) -> None:
    with pytest.raises(SettingsError, match=r"wants 0\.5 GPUs, and run\.device is cpu"):
        sweep(filled, space, 2, gpus_per_trial=0.5)
    base = tiny.base(**{"run.device": "auto"})
    with pytest.raises(SettingsError, match=r"wants 0\.5 GPUs; this machine has 0"):
        sweep(filled, space, 2, name="t", gpus_per_trial=0.5, base=base)
