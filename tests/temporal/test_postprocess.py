"""Filters against plain loops, thresholds against brute force, and that nobody fits on himself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from raffect.affwild2.labels import VideoLabels
from raffect.affwild2.scores import score
from raffect.affwild2.tasks import SPECS, Split, Task
from raffect.temporal.postprocess import (
    CrossFitted,
    Filter,
    Postprocess,
    cross_fit,
    move_thresholds,
    postprocess,
)
from raffect.temporal.timelines import build_timelines

PLAIN = Postprocess()


def va(*valence):
    """Predictions whose arousal is the valence's opposite."""
    column = np.array(valence, np.float32)
    return np.stack([column, -column], axis=1)


def by(**values):
    return Postprocess(filters=(Filter(**values),))


RAMP = va(0, 0.1, 0.2, 0.9, 0.4)
TABLE = [
    ("nothing", PLAIN, 5, [0, 0.1, 0.2, 0.9, 0.4]),
    ("mean, fewer frames at the ends", by(half_width=1), 5, [0.05, 0.1, 0.4, 0.5, 0.65]),
    ("wider than the video", by(half_width=100), 5, [0.32] * 5),
    ("a delay holds the first value", by(shift=2), 5, [0, 0, 0, 0.1, 0.2]),
    ("longer than the video", by(shift=30), 5, [0] * 5),
    ("mean, then delay", by(half_width=1, shift=1), 5, [0.05, 0.05, 0.1, 0.4, 0.5]),
    ("frames after the last crop hold", by(half_width=1), 3, [0.05, 0.1, 0.15, 0.15, 0.15]),
    ("and are delayed", by(half_width=1, shift=1), 3, [0.05, 0.05, 0.1, 0.15, 0.15]),
]


@pytest.mark.parametrize(("values", "seen", "expected"), [row[1:] for row in TABLE])
def test_a_filter_does_what_the_table_says(values, seen, expected):
    found = postprocess(Task.VA, values, RAMP, seen)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, va(*expected), atol=1e-7)


def test_valence_and_arousal_may_have_a_filter_each():
    both = Postprocess(filters=(Filter(half_width=1), Filter(shift=1)))
    found = postprocess(Task.VA, both, RAMP, 5)
    np.testing.assert_allclose(found[:, 0], [0.05, 0.1, 0.4, 0.5, 0.65], atol=1e-7)
    np.testing.assert_array_equal(found[:, 1], RAMP[[0, 0, 1, 2, 3], 1])


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(0, 30), st.integers(0, 15), st.integers(0, 10))
def test_the_mean_is_that_of_a_plain_loop_whatever_comes_after(seen, more, width, shift):
    values = np.random.default_rng(seen).uniform(-1, 1, (seen + more, 2)).astype(np.float32)
    values[seen:] = values[seen - 1]
    found = postprocess(Task.VA, by(half_width=width, shift=shift), values, seen)
    for frame in range(seen + more):
        place = min(max(frame - shift, 0), seen - 1)
        own = values[max(place - width, 0) : min(place + width + 1, seen)].astype(np.float64)
        np.testing.assert_allclose(found[frame], own.mean(axis=0), atol=1e-6)
    alone = postprocess(Task.VA, by(half_width=width, shift=shift), values[:seen], seen)
    np.testing.assert_array_equal(found[:seen], alone)


def test_the_median_is_that_of_log_probabilities_mirrored_at_the_ends():
    rng = np.random.default_rng(0)
    values = rng.dirichlet(np.ones(8), 9).astype(np.float32)
    found = postprocess(Task.EXPR, by(kind="median", half_width=2), values, 9)
    logs = np.log(values)
    mirrored = np.concatenate([logs[1::-1], logs, logs[:-3:-1]])
    medians = np.stack([np.median(mirrored[i : i + 5], axis=0) for i in range(9)])
    expected = np.exp(medians) / np.exp(medians).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    # The usual width in a video that is shorter, and probabilities of 0.
    one_hot = np.eye(8, dtype=np.float32)[[0, 0, 3]]
    found = postprocess(Task.EXPR, by(kind="median", half_width=50), one_hot, 3)
    assert found.argmax(axis=1).tolist() == [0, 0, 0]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20),
    st.floats(2.0**-15, 0.984375, width=32),
)
def test_thresholds_move_to_a_half_and_no_value_changes_sides_or_places(values, threshold):
    column = np.array([*values, threshold, np.nextafter(np.float32(threshold), np.float32(0))])
    column = np.sort(column.astype(np.float32))
    found = move_thresholds(column[:, None], [threshold])[:, 0]
    assert ((found >= 0.5) == (column >= np.float32(threshold))).all()
    assert (np.diff(found) >= 0).all()
    assert found.min() >= 0
    assert found.max() <= 1


def made(task, videos=8, frames=300, noise=1.0, lag=0, seed=0, smooth=12):
    """Timelines with labels of slow signals, and predictions of them, early by `lag`, as float32.

    Every third video has frames after its last crop and a gap; labels have invalid rows.
    """
    rng = np.random.default_rng(seed)
    width = SPECS[task].outputs
    labels, crops, predictions = {}, {}, []
    for i in range(videos):
        steps = rng.normal(size=(frames + smooth + lag, width))
        slow = np.stack([np.convolve(c, np.ones(smooth) / smooth**0.5, "same") for c in steps.T])
        true, face = slow.T[:frames], slow.T[lag : frames + lag]
        seen = face + rng.normal(0, noise, face.shape)
        if task is Task.VA:
            values, own = np.tanh(true), np.tanh(seen)
        elif task is Task.EXPR:
            values, own = true.argmax(axis=1)[:, None], np.exp(seen)
            own = own / own.sum(axis=1, keepdims=True)
        else:
            values, own = true > 1.2, 1 / (1 + np.exp(2 - seen))
        values = values.astype(np.float32)
        values[5::11] = SPECS[task].invalid
        name = f"v{i}"
        labels[name] = VideoLabels(name, Split.VALIDATION, values, SPECS[task].valid(values))
        last = frames - 20 if i % 3 == 0 else frames
        shown = np.r_[1:40, 60 : last + 1]
        crops[name] = (shown, shown)
        own[last:] = own[last - 1]
        predictions.append(own.astype(np.float32))
    return np.concatenate(predictions), build_timelines(list(labels), crops, {task: labels})


def applied(task, predictions, timelines, fitted):
    rows = zip(
        timelines.videos, timelines.split(predictions), timelines.seen.tolist(), strict=True
    )
    return np.concatenate([postprocess(task, fitted.of(name), x, seen) for name, x, seen in rows])


def scored(task, predictions, timelines, chosen=None):
    of = timelines.labels[task]
    rows = of.valid if chosen is None else of.valid & np.repeat(chosen, timelines.lengths)
    return score(task, predictions[rows], of.values[rows]).value


GROUPS = np.arange(8) % 2


@pytest.mark.parametrize("task", list(Task))
def test_the_best_of_the_grid_is_found_for_each_group_and_for_all(task, monkeypatch):
    monkeypatch.setattr("raffect.temporal.postprocess.SHIFTS", (0, 8))
    widths = dict.fromkeys(Task, (0, 5))
    monkeypatch.setattr("raffect.temporal.postprocess.HALF_WIDTHS", widths)
    predictions, timelines = made(task, lag=8)
    fitted = cross_fit(task, predictions, timelines, GROUPS)
    fits = [(fitted.applied[1], GROUPS == 0), (fitted.applied[0], GROUPS == 1)]
    filters = [Filter(half_width=w, shift=s) for w in (0, 5) for s in (0, 8)]
    if task is Task.EXPR:
        filters += [Filter(kind="median", half_width=50, shift=s) for s in (0, 8)]
    for values, own in [*fits, (fitted.final, GROUPS >= 0)]:
        rows = timelines.labels[task].valid & np.repeat(own, timelines.lengths)
        true = timelines.labels[task].values[rows]
        pieces = list(zip(timelines.split(predictions), timelines.seen, strict=True))

        def whole(filters, rows=rows, pieces=pieces):
            plain = Postprocess(filters=filters)
            return np.concatenate([postprocess(task, plain, x, seen) for x, seen in pieces])[rows]

        if task is Task.VA:
            for part in range(2):
                found = [score(task, whole((f,)), true).parts for f in filters]
                name = SPECS[task].columns[part]
                assert (
                    max(each[name] for each in found)
                    == found[filters.index(values.filters[part])][name]
                )
        elif task is Task.EXPR:
            found = [score(task, whole((f,)), true).value for f in filters]
            assert values.filters == (filters[int(np.argmax(found))],)
        else:
            best = whole(values.filters)
            for unit, threshold in enumerate(values.thresholds):
                own = f1_score(true[:, unit], best[:, unit] >= threshold)
                # Every value of the filtered predictions as a threshold; ours are 3 % apart.
                every = [f1_score(true[:, unit], best[:, unit] >= v) for v in best[::150, unit]]
                assert own >= max(every) - 0.01


def test_among_equals_the_least_is_taken_and_unknown_units_keep_their_threshold():
    _, timelines = made(Task.AU, noise=0.2)
    of = timelines.labels[Task.AU]
    of.values[of.valid, 3] = 0
    exact = (of.values == 1).astype(np.float32) * 0.8 + 0.1
    fitted = cross_fit(Task.AU, exact, timelines, GROUPS)
    assert fitted.final == Postprocess(filters=(Filter(),), thresholds=(0.5,) * 12)


@pytest.mark.parametrize("task", list(Task))
def test_a_groups_own_labels_change_nothing_of_what_it_has(task):
    predictions, timelines = made(task, lag=8)
    before = cross_fit(task, predictions, timelines, GROUPS)
    of = timelines.labels[task]
    for group in (0, 1):
        rows = np.flatnonzero(of.valid & np.repeat(group == GROUPS, timelines.lengths))
        kept = of.values[rows].copy()
        of.values[rows] = np.random.default_rng(group).permutation(kept)
        after = cross_fit(task, predictions, timelines, GROUPS)
        assert after.applied[group] == before.applied[group]
        assert after.applied[1 - group] != before.applied[1 - group]
        of.values[rows] = kept


@pytest.mark.parametrize("task", list(Task))
def test_a_late_and_noisy_signal_is_smoothed_and_delayed(task):
    predictions, timelines = made(task, lag=8)
    fitted = cross_fit(task, predictions, timelines, GROUPS)
    for values in (*fitted.applied, fitted.final):
        assert {each.shift for each in values.filters} == {8}
        assert all(each.half_width > 0 for each in values.filters)
    found = scored(task, applied(task, predictions, timelines, fitted), timelines)
    assert found > scored(task, predictions, timelines) + 0.1


@pytest.mark.parametrize("task", [Task.VA, Task.EXPR])
def test_fitting_on_noise_gains_nothing_on_the_average(task):
    gains = []
    for seed in range(12):
        predictions, timelines = made(task, seed=seed)
        noise = np.random.default_rng(seed).permutation(predictions)
        fitted = cross_fit(task, noise, timelines, GROUPS)
        found = scored(task, applied(task, noise, timelines, fitted), timelines)
        gains.append(found - scored(task, noise, timelines))
    assert np.mean(gains) < 2 * np.std(gains) / len(gains) ** 0.5


def test_values_survive_json_and_other_data_has_those_of_all():
    predictions, timelines = made(Task.AU)
    fitted = cross_fit(Task.AU, predictions, timelines, GROUPS)
    assert CrossFitted.model_validate_json(fitted.model_dump_json()) == fitted
    assert fitted.of("v1") == fitted.applied[1]
    assert fitted.of("v2") == fitted.applied[0]
    assert fitted.of("another") == fitted.final


def test_values_are_said_in_words():
    both = Postprocess(filters=(Filter(half_width=15, shift=8), Filter()))
    valence = "valence: mean of 31 frames, delayed by 8"
    assert both.describe(Task.VA) == f"{valence}; arousal: no smoothing"
    units = Postprocess(filters=(Filter(shift=4),), thresholds=(0.125, *[0.5] * 11))
    assert units.describe(Task.AU) == "no smoothing, delayed by 4; thresholds from 0.125 to 0.5"


def test_only_some_frames_of_long_videos_are_compared(monkeypatch):
    predictions, timelines = made(Task.EXPR, lag=8, frames=600)
    whole = cross_fit(Task.EXPR, predictions, timelines, GROUPS)
    monkeypatch.setattr("raffect.temporal.postprocess.MOST_FITTED", 1000)
    assert cross_fit(Task.EXPR, predictions, timelines, GROUPS) == whole
