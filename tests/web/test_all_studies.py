from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal._storage import JournalOperation
from optuna.trial import FrozenTrial

from raffect.errors import ConflictError, StoreError
from raffect.store import Store
from raffect.sweep.quiet import quiet
from raffect.sweep.study import journal_of, open_storage, open_study
from raffect.web import all_studies as gathering
from raffect.web.all_studies import GatheredJournal
from raffect.web.live import IDLE_REFRESH_S


def run(store: Store, name: str, scores: Sequence[float], study_name: str | None = None) -> None:
    """Finish a trial with each of these scores, as a driver of its own that continues a sweep."""
    study = optuna.create_study(
        storage=JournalStorage(journal_of(store, name)),
        study_name=study_name or name,
        direction="maximize",
        load_if_exists=True,
    )
    for score in scores:
        trial = study.ask()
        trial.suggest_float("optimiser.lr", 1e-5, 1e-2, log=True)
        trial.set_user_attr("host", f"{name} {score}")
        trial.report(score / 2, 1)
        study.tell(trial, score)


def values(storage: JournalStorage) -> dict[str, list[float | None]]:
    """Scores of all trials by study."""
    return {
        study.study_name: [trial.value for trial in storage.get_all_trials(study._study_id)]
        for study in storage.get_all_studies()
    }


def told(trial: FrozenTrial) -> dict[str, Any]:
    """All of a trial but its number in the storage."""
    return {key: value for key, value in vars(trial).items() if key != "_trial_id"}


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def watch(store: Store, **more: Any) -> tuple[JournalStorage, Clock]:
    clock = Clock()
    return JournalStorage(GatheredJournal(store, clock=clock, **more)), clock


@pytest.mark.parametrize("where", ["store", "s3_store"])
def test_every_sweep_is_a_study_with_its_own_trials(
    where: str, request: pytest.FixtureRequest
) -> None:
    store = request.getfixturevalue(where)
    run(store, "va", [0.1, 0.3])
    run(store, "expr", [0.2])
    run(store, "va", [0.25])
    storage = JournalStorage(GatheredJournal(store))
    for study in storage.get_all_studies():
        own = open_study(store, study.study_name).get_trials()
        found = storage.get_all_trials(study._study_id)
        assert [told(trial) for trial in found] == [told(trial) for trial in own]
        assert all(storage.get_trial(trial._trial_id) == trial for trial in found)
    assert values(storage) == {"va": [0.1, 0.3, 0.25], "expr": [0.2]}
    assert optuna.load_study(study_name="va", storage=storage).best_value == 0.3


def test_what_is_written_meanwhile_appears_and_what_was_read_keeps_its_place(store: Store) -> None:
    run(store, "b", [0.1])
    journal = GatheredJournal(store, refresh_s=0.0)
    storage = JournalStorage(journal)
    before = list(journal.read_logs(0))
    ids = {study.study_name: study._study_id for study in storage.get_all_studies()}
    run(store, "a", [0.5])
    run(store, "b", [0.2, 0.3])
    assert values(storage) == {"b": [0.1, 0.2, 0.3], "a": [0.5]}
    run(store, "a", [0.6])
    journal_of(store, "b").compact()
    run(store, "b", [0.4])
    assert values(storage) == {"b": [0.1, 0.2, 0.3, 0.4], "a": [0.5, 0.6]}
    log = list(journal.read_logs(0))
    assert log[: len(before)] == before
    assert list(journal.read_logs(len(before))) == log[len(before) :]
    assert values(JournalStorage(journal)) == values(storage)
    assert storage.get_study_id_from_name("b") == ids["b"]


def test_one_sweep_alone(store: Store) -> None:
    run(store, "a", [0.5])
    run(store, "b", [0.1])
    storage, clock = watch(store, sweeps=["b"])
    run(store, "c", [0.2])
    clock.now += 60
    assert values(storage) == {"b": [0.1]}


def test_nothing_can_be_changed(store: Store) -> None:
    run(store, "a", [0.5])
    storage = JournalStorage(GatheredJournal(store))
    before = store.files("")
    with pytest.raises(ConflictError, match="only shown here"):
        storage.delete_study(0)
    with pytest.raises(ConflictError, match="only shown here"):
        optuna.create_study(storage=storage, study_name="b")
    assert store.files("") == before
    assert values(storage) == {"a": [0.5]}


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("scores", [[], [0.7], [0.7] * 2, [0.7] * 4])
def test_a_sweep_that_was_made_anew_takes_the_place_of_the_old_one(
    store: Store, merged: bool, scores: list[float]
) -> None:
    run(store, "a", [0.1, 0.2, 0.3])
    run(store, "b", [0.5])
    if merged:
        journal_of(store, "a").compact()
    storage, clock = watch(store)
    assert values(storage)["a"] == [0.1, 0.2, 0.3]
    store.delete("sweeps/a")
    run(store, "a", scores)
    clock.now += 60
    assert values(storage) == {"b": [0.5], "a": scores}
    run(store, "a", [0.9])
    run(store, "b", [0.6])
    clock.now += 60
    assert values(storage) == {"b": [0.5, 0.6], "a": [*scores, 0.9]}


def test_a_sweep_that_is_gone_is_gone(store: Store) -> None:
    run(store, "a", [0.1])
    run(store, "b", [0.5])
    storage, clock = watch(store)
    assert values(storage) == {"a": [0.1], "b": [0.5]}
    store.delete("sweeps/a")
    clock.now += 60
    assert values(storage) == {"b": [0.5]}


def test_copied_folders_and_strangers_do_no_harm(store: Store) -> None:
    run(store, "a", [0.1])
    shutil.copytree(store.path("sweeps/a"), store.path("sweeps/copy"))
    Path(store.path("sweeps/not a sweep")).mkdir()
    Path(store.path("sweeps/planned")).mkdir()
    assert values(JournalStorage(GatheredJournal(store))) == {"a": [0.1], "copy/a": [0.1]}


def test_trials_of_studies_that_optuna_passes_over_count_for_nothing(store: Store) -> None:
    run(store, "a", [0.1], study_name="first")
    run(store, "a", [0.2], study_name="a")
    own = JournalStorage(journal_of(store, "a"))
    own.delete_study(0)
    journal_of(store, "a").append_logs(
        [
            {"op_code": 4, "worker_id": "w", "study_id": 0, "datetime_start": None},
            {"op_code": 8, "worker_id": "w", "trial_id": 7, "user_attr": {"a": 1}},
            {"op_code": 10, "worker_id": "w"},
        ]
    )
    run(store, "a", [0.3], study_name="a")
    run(store, "b", [0.5])
    assert values(JournalStorage(GatheredJournal(store))) == {"a": [0.2, 0.3], "b": [0.5]}


def test_a_look_costs_little(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run(store, "a", [0.1])
    run(store, "b", [0.2])
    storage, clock = watch(store)
    looks: list[str] = []
    names = store.names
    monkeypatch.setattr(store, "names", lambda folder: looks.append(folder) or names(folder))

    def cost(seconds: float) -> int:
        looks.clear()
        clock.now += seconds
        values(storage)
        return len(looks)

    # Within the refresh time nothing is asked, then one list of sweeps and one per sweep.
    assert cost(0.0) == 0
    assert cost(1.9) == 0
    assert cost(0.2) == 3
    # At a sweep that is quiet for minutes it looks seldom, at one that runs at once.
    assert cost(600) == 3
    assert cost(2.1) == 1
    assert cost(IDLE_REFRESH_S) == 3
    run(store, "a", [0.3])
    assert cost(IDLE_REFRESH_S) > 3
    assert cost(2.1) == 2


def test_a_store_that_does_not_answer_is_said_once_and_known_trials_stay(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(store, "a", [0.1])
    troubles: list[str] = []
    storage, clock = watch(store, on_trouble=troubles.append)

    def fail(folder: str) -> list[str]:
        raise StoreError("The server does not answer.")

    monkeypatch.setattr(store, "names", fail)
    for _ in range(3):
        clock.now += 60
        assert values(storage) == {"a": [0.1]}
    assert troubles == ["The server does not answer."]
    with pytest.raises(StoreError):
        JournalStorage(GatheredJournal(store))
    monkeypatch.undo()
    run(store, "a", [0.2])
    clock.now += 60
    assert values(storage) == {"a": [0.1, 0.2]}


def test_optunas_codes_are_those_that_are_translated() -> None:
    codes = {operation.name: int(operation) for operation in JournalOperation}
    own = {"CREATE_STUDY": 0, "DELETE_STUDY": 1, "CREATE_TRIAL": 4}
    assert {name: getattr(gathering, f"_{name}") for name in own} == own
    # Of the others the fields tell what they are about; the last is passed over by Optuna too.
    assert codes == own | {
        "SET_STUDY_USER_ATTR": 2,
        "SET_STUDY_SYSTEM_ATTR": 3,
        "SET_TRIAL_PARAM": 5,
        "SET_TRIAL_STATE_VALUES": 6,
        "SET_TRIAL_INTERMEDIATE_VALUE": 7,
        "SET_TRIAL_USER_ATTR": 8,
        "SET_TRIAL_SYSTEM_ATTR": 9,
        "DISCARD_TRIALS": 10,
    }


def test_lists_as_categories_are_shown_as_text(store: Store, recwarn: pytest.WarningsRecorder):
    with quiet():
        study = optuna.create_study(study_name="s", storage=open_storage(store, "s"))
        for choice in ([16, 8], [4], None):
            study.enqueue_trial({"channels": choice})
            trial = study.ask()
            trial.suggest_categorical("channels", [[16, 8], [4], None])  # type: ignore[list-item]
            study.tell(trial, 1.0)
        study.add_trials(study.trials)
    recwarn.clear()
    shown = optuna.load_study(study_name="s", storage=JournalStorage(GatheredJournal(store)))
    values = [trial.params["channels"] for trial in shown.trials]
    assert values == ["[16, 8]", "[4]", None] * 2
    assert len({*values}) == 3
    assert len(optuna.importance.get_param_importances(shown)) == 1
    assert [str(one.message) for one in recwarn if "categorical" in str(one.message)] == []
