"""How sure a sweep's scores are, from the sums in its trials' folders."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from raffect.affwild2.selection import expected_of_best, jackknife, score_models
from raffect.affwild2.sums import VideoSums, score_sums
from raffect.affwild2.tasks import Task
from raffect.store import FileEntry, Store
from raffect.store.layout import SUMS, trial_folder
from raffect.sweep import paired
from raffect.sweep.evidence import read_evidence
from raffect.sweep.paired import read_all_sums
from raffect.sweep.records import TrialRow
from tests.benchmarks.bench_selection import simulate
from tests.report.views import row, view

VIDEOS, TRIALS = 12, 5
NAMES = tuple(f"video{n}" for n in range(VIDEOS))


def leave(
    store: Store, task: Task = Task.VA, videos: int = VIDEOS, trials: int = TRIALS, **more: Any
) -> tuple[list[TrialRow], np.ndarray]:
    """Trials, the best first, of two epochs whose sums are kept; the recipe is the last one."""
    sums = simulate(task, np.random.default_rng(0), videos, np.linspace(-0.4, 0.4, trials))
    scores = score_models(task, np.ones((1, videos)), sums)[0]
    sums, scores = sums[np.argsort(-scores)], np.sort(scores)[::-1]
    rows = []
    for number in range(trials):
        kept = VideoSums(task, NAMES[:videos], (2,), np.round(sums[number : number + 1], 9))
        if task is not Task.VA:
            kept = replace(kept, values=np.round(kept.values))
        data = kept.to_bytes()
        key = f"trials/{number:05d}/{SUMS}"
        store.write_bytes(f"sweeps/s/{key}", data)
        rows.append(
            row(
                number,
                scores=[0.0, float(scores[number])],
                recipe=number == trials - 1,
                files=[FileEntry.of(key, data).canonical()],
                **more,
            )
        )
    return rows, sums


@pytest.mark.parametrize("task", Task)
def test_intervals_and_paired_differences_against_the_sums(task: Task, store: Store) -> None:
    rows, _ = leave(store, task)
    found = view(rows, task=task, store=store).evidence
    assert (found.videos, found.missing, set(found.trials)) == (VIDEOS, "", set(range(TRIALS)))
    kept = [
        VideoSums.from_bytes(store.read_bytes(f"{trial_folder('s', n)}/{SUMS}")).at(2)
        for n in range(TRIALS)
    ]
    times = np.random.default_rng(0).multinomial(VIDEOS, np.full(VIDEOS, 1 / VIDEOS), 1000)
    scores = np.stack([score_sums(task, times, of) for of in kept])
    whole = np.array([score_sums(task, np.ones((1, VIDEOS), int), of)[0] for of in kept])
    for number in range(TRIALS):
        trial = found.trials[number]
        assert trial.interval == pytest.approx(
            np.quantile(scores[number], [0.025, 0.975]), abs=1e-9
        )
        assert trial.probability_best == pytest.approx((scores.argmax(axis=0) == number).mean())
        for versus, other in ((trial.versus_recipe, TRIALS - 1), (trial.versus_best, 0)):
            if number == other:
                assert versus is None
                continue
            assert versus is not None
            assert versus.difference == pytest.approx(whole[number] - whole[other], abs=1e-9)
            apart = np.quantile(scores[number] - scores[other], [0.025, 0.975])
            assert versus.interval == pytest.approx(apart, abs=1e-9)
            assert versus.is_clear == (apart[0] > 0 or apart[1] < 0)
    stacked = np.stack(kept)
    assert found.expected == pytest.approx(expected_of_best(whole, jackknife(task, stacked)))
    assert found.expected < whole[0]


def test_rows_and_sweeps_as_json(store: Store) -> None:
    rows, _ = leave(store)
    rows[1] = replace(rows[1], curve=[replace(e, raw=0.4) for e in rows[1].curve])
    made = view(rows, store=store)
    first, second, *_, recipe = made.trials_json()
    known = made.evidence.trials[0]
    assert first["interval"] == list(known.interval)
    assert known.versus_recipe is not None
    assert first["versus_recipe"] == {
        "difference": known.versus_recipe.difference,
        "interval": list(known.versus_recipe.interval),
    }
    assert first["probability_best"] == known.probability_best
    assert (first["raw"], second["raw"]) == (first["score"], 0.4)
    assert recipe["versus_recipe"] is None
    assert first["versus_best"] is None
    assert second["versus_best"] is not None
    assert second["versus_best"]["difference"] == pytest.approx(rows[1].score - rows[0].score)
    assert "1 other trial is not clearly worse" in made.expectation
    assert made.to_json()["expected"] == made.evidence.expected


def test_trials_of_before_have_none_and_the_sweep_says_why(store: Store) -> None:
    rows, _ = leave(store)
    old = [
        replace(of, files=[{"name": "trials/00000/metrics.json", "sha256": "x"}]) for of in rows
    ]
    made = view(old, store=store)
    assert made.evidence.trials == {}
    assert "kept no sums per video" in made.evidence.missing
    assert made.trials_json()[0]["interval"] is None
    assert made.to_json()["expected"] is None
    # One that was taken over lists no files: its own sweep may have kept them.
    taken = [replace(of, files=(), origin=f"s:{of.number}") for of in rows]
    assert set(view(taken, store=store).evidence.trials) == set(range(TRIALS))
    store.delete(f"{trial_folder('s', 1)}/{SUMS}")
    some = view(taken, store=store).evidence
    assert set(some.trials) == {0, 2, 3, 4}
    assert some.expected is not None


def test_trials_on_other_videos_are_not_compared(store: Store) -> None:
    rows, sums = leave(store)
    other = VideoSums(Task.VA, tuple(f"x{n}" for n in range(VIDEOS)), (2,), sums[2:3])
    store.write_bytes(f"{trial_folder('s', 2)}/{SUMS}", other.to_bytes())
    rows = [replace(of, files=()) for of in rows]
    assert set(view(rows, store=store).evidence.trials) == {0, 1, 3, 4}


def test_an_ablation_has_no_expected_score_and_an_unfinished_recipe_no_difference(
    store: Store,
) -> None:
    rows, _ = leave(store)
    assert view(rows, store=store, kind="ablation").evidence.expected is None
    rows[-1] = replace(rows[-1], state="PRUNED")
    found = view(rows, store=store).evidence
    assert found.trials[0].versus_recipe is None
    assert found.trials[1].versus_best is not None


def test_few_videos_and_no_trials_say_so(store: Store) -> None:
    rows, _ = leave(store, videos=2)
    assert view(rows, store=store).evidence.missing.startswith("2 validation videos say nothing")
    assert read_evidence(store, Task.VA, [], None, True).missing == ""
    assert view(rows).evidence.trials == {}


def test_a_process_reads_the_sums_of_a_trial_once(store: Store, monkeypatch: Any) -> None:
    rows, _ = leave(store, trials=3)
    monkeypatch.setattr(paired, "_kept", {})
    monkeypatch.setattr(paired, "_MOST_KEPT", 2)
    first = read_all_sums(store, rows)
    assert len(paired._kept) == 2
    monkeypatch.setattr(paired, "_MOST_KEPT", 3)
    read_all_sums(store, rows)
    store.delete("sweeps/s")
    again = read_all_sums(store, rows)
    assert len(again) == 3
    assert all(np.array_equal(again[n][1], first[n][1]) for n in again)


def test_reading_needs_no_torch() -> None:
    code = "import sys, raffect.sweep.leaderboard; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
