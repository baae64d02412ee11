"""What samplers see of a long study, and that it leads them to the same place."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.samplers._tpe.sampler import _split_trials
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from raffect.sweep.quiet import quiet
from raffect.sweep.samplers import ThinningSampler, thin

UP, DOWN = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    with quiet():
        yield


def ended(number: int, *values: float, margin: float = 0.0, pruned: bool = False) -> FrozenTrial:
    trial = create_trial(
        state=TrialState.PRUNED if pruned else TrialState.COMPLETE,
        values=None if pruned else values,
        params={"x": number / 1e4},
        distributions={"x": FloatDistribution(0, 1)},
        intermediate_values={1: values[0]} if pruned else {},
        constraints={"parameters": margin},
    )
    trial.number = number
    return trial


def test_the_latest_and_the_best_are_kept() -> None:
    trials = [ended(n, 1.0 if n == 3 else n / 1000) for n in range(200)]
    kept = thin(trials, [UP], 100)
    assert kept == {3} | set(range(100, 200))
    assert thin(trials, [DOWN], 100) == set(range(51)) - {3} | set(range(100, 200))


def test_the_best_are_complete_and_keep_the_limits() -> None:
    trials = [ended(n, 0.1) for n in range(200)]
    trials[5] = ended(5, 9.0, pruned=True)
    trials[6] = ended(6, 8.0, margin=1.0)
    trials[7] = ended(7, 7.0)
    kept = thin(trials, [UP], 50)
    assert 7 in kept
    assert not kept & {5, 6}


def test_each_objective_has_its_best() -> None:
    trials = [ended(n, 0.5, 100.0) for n in range(300)]
    trials[0] = ended(0, 0.9, 500.0)
    trials[1] = ended(1, 0.1, 1.0)
    assert {0, 1} <= thin(trials, [UP, DOWN], 50)


def test_tpe_s_better_part_is_that_of_the_whole_study() -> None:
    numbers = random.Random(0)
    trials = [ended(n, numbers.random(), pruned=n % 3 == 0) for n in range(1000)]
    study = optuna.create_study(direction="maximize")
    kept = thin(trials, [UP], 200)
    whole, _ = _split_trials(study, trials, 25)
    seen, _ = _split_trials(study, [trial for trial in trials if trial.number in kept], 25)
    assert [trial.number for trial in seen] == [trial.number for trial in whole]


class Spy(RandomSampler):
    """Counts what it sees."""

    def __init__(self) -> None:
        super().__init__(seed=0)
        self.seen: list[list[TrialState]] = []

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        self.seen.append([trial.state for trial in study.get_trials(deepcopy=False)])
        return super().sample_relative(study, trial, search_space)


def make(sampler: BaseSampler, most: int, trials: int) -> optuna.Study:
    storage = InMemoryStorage()
    study = optuna.create_study(storage=storage, direction="maximize")
    study.sampler = ThinningSampler(sampler, storage, most)
    numbers = random.Random(1)
    study.add_trials([ended(n, numbers.random()) for n in range(trials)])
    return study


def test_a_sampler_sees_no_more_than_the_limit_the_best_and_what_runs() -> None:
    spy = Spy()
    study = make(spy, 100, 400)
    for _ in range(3):
        study.ask().suggest_float("x", 0, 1)
    # A trial runs when it is asked for.
    assert [states.count(TrialState.RUNNING) for states in spy.seen] == [1, 2, 3]
    assert all(100 <= states.count(TrialState.COMPLETE) <= 150 for states in spy.seen)
    assert len(study.trials) == 403, "the study itself has them all"


def test_a_study_below_the_limit_is_searched_as_without_it() -> None:
    found = []
    for most in (10**6, 60):
        study = make(TPESampler(seed=3, multivariate=True, group=True), most, 50)
        for _ in range(10):
            trial = study.ask()
            trial.suggest_float("x", 0, 1)
            study.tell(trial, 0.5)
        plain = optuna.create_study(
            direction="maximize", sampler=TPESampler(seed=3, multivariate=True, group=True)
        )
        plain.add_trials(study.trials[:50])
        for _ in range(10):
            trial = plain.ask()
            trial.suggest_float("x", 0, 1)
            plain.tell(trial, 0.5)
        assert [t.params for t in study.trials] == [t.params for t in plain.trials]
        found.append([t.params for t in study.trials])
    assert found[0] == found[1]


def test_hyperband_s_brackets_are_left_as_they_are() -> None:
    spy = Spy()
    study = make(spy, 100, 400)
    study.pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=9)
    study.ask().suggest_float("x", 0, 1)
    assert len(spy.seen[0]) == 401


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_long_studies_are_still_searched_where_the_best_trials_are(sampler: str) -> None:
    inner: BaseSampler
    if sampler == "tpe":
        inner = TPESampler(seed=0, multivariate=True, group=True)
    else:
        inner = optuna.samplers.GPSampler(seed=0)
    storage = InMemoryStorage()
    study = optuna.create_study(storage=storage, direction="maximize")
    study.sampler = ThinningSampler(inner, storage, 40)
    numbers = random.Random(2)
    # The best are the oldest: the latest 40 alone know nothing of them.
    places = [0.2 + 0.001 * n for n in range(10)] + [
        0.5 + numbers.random() / 2 for _ in range(190)
    ]
    study.add_trials(
        [
            create_trial(
                value=1 - abs(place - 0.2),
                params={"x": place},
                distributions={"x": FloatDistribution(0, 1)},
            )
            for place in places
        ]
    )
    asked = [study.ask() for _ in range(5)]
    drawn = sorted(trial.suggest_float("x", 0, 1) for trial in asked)
    assert drawn[2] == pytest.approx(0.2, abs=0.1)
