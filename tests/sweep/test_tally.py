"""What trials come to, look by look, is what all of them at once come to."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest

from raffect.report.data import best_so_far, scored
from raffect.sweep.attributes import FINISHED
from raffect.sweep.records import TrialRow, rank
from raffect.sweep.tally import PACE, Tally
from tests.report.views import row

SCORES = (0.1, 0.2, 0.2, 0.3, 0.5, float("nan"))


def some_trials(dice: random.Random, count: int) -> list[TrialRow]:
    """Trials of all kinds, with equal scores and numbers in the order of their end or not."""
    found = []
    for number in range(count):
        state = dice.choice(["COMPLETE", "PRUNED", "PRUNED", "FAIL"])
        one = row(number, state, [dice.choice(SCORES)], reason=dice.choice([None, "oom: no"]))
        if state == "FAIL":
            one = replace(one, score=None)
        if dice.random() < 0.1:
            one = replace(one, origin="other:3")
        if dice.random() < 0.1:
            one = replace(one, violations={"parameters": 1.0})
        if dice.random() < 0.1:
            one = replace(one, attributes={"recipe": True, "workers": 2})
        found.append(one)
    return found


def facts(tally: Tally) -> dict[str, str]:
    """All that it says; as text, since NaN is not NaN."""
    found: dict[str, Any] = {
        name: value for name, value in vars(tally).items() if name != "recipes"
    }
    for name in ("counts", "points", "makers"):
        found[name] = sorted((str(key), of) for key, of in found[name].items() if of)
    found["recipes"] = sorted(one.number for one in tally.recipes)
    return {name: str(value) for name, value in found.items()}


@pytest.mark.parametrize("seed", range(8))
def test_looks_add_up(seed: int) -> None:
    dice = random.Random(seed)
    trials = some_trials(dice, 120)
    begun: list[TrialRow] = []
    left = [replace(one, state="RUNNING", model=None, finished=None) for one in trials]
    now, looks = Tally(), []
    ended: list[TrialRow] = []
    while left or begun:
        more = dice.choice([1, 2, 5, 50])
        begun, left = begun + left[:more], left[more:]
        done = [one for one in begun if dice.random() < 0.4]
        begun = [one for one in begun if one not in done]
        new = [trials[one.number] for one in done]
        ended += new
        now = now.grown(new, begun)
        looks.append((now, facts(now)))
        assert facts(now) == facts(Tally.of([*ended, *begun]))
    # Whoever still draws an earlier look finds it as it was.
    assert all(facts(look) == then for look, then in looks)
    assert [one.number for one in now.rows] == [one.number for one in sorted(trials, key=rank)]
    assert now.last == 119
    assert len(now.ends) == PACE
    best = best_so_far(trials)
    rises = [n for n in best if best[n] != best.get(n - 1)]
    assert now.stairs == [(n, best[n]) for n in rises]
    finite = [score for _, score in scored(trials) if math.isfinite(score)]
    assert sum(map(len, now.points.values())) == len(finite)
    assert now.counts.total() == sum(one.origin is None for one in trials)


def test_trials_of_which_none_ended() -> None:
    now = Tally.of([row(0, "RUNNING", [0.2]), row(1, "WAITING")])
    assert [one.number for one in now.rows] == [0, 1]
    assert (now.ended, now.points, now.stairs, now.changed) == ([], {}, [], None)
    assert not set(now.counts) & set(FINISHED)
