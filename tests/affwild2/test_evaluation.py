import time
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from sklearn.metrics import f1_score

from raffect.affwild2.annotations import load_annotations
from raffect.affwild2.evaluation import bootstrap, evaluate
from raffect.affwild2.labels import VideoLabels
from raffect.affwild2.predictions import (
    VideoPredictions,
    header_of,
    read_predictions,
    write_predictions,
)
from raffect.affwild2.scores import score
from raffect.affwild2.submission import write_submission
from raffect.affwild2.tasks import SPECS, Split, Task, image_location
from raffect.errors import DataError
from tests.builders import RawTree


def make(task, lengths=(40, 1, 25, 60, 33), seed=0):
    """Noisy predictions for every line, and labels some of which are invalid."""
    rng = np.random.default_rng(seed)
    spec = SPECS[task]
    predictions, labels = {}, {}
    for i, length in enumerate(lengths):
        if task is Task.VA:
            values = rng.uniform(-1, 1, (length, 2))
            guess = np.clip(values + rng.normal(0.1, 0.4, (length, 2)), -1, 1)
        elif task is Task.EXPR:
            values = rng.choice(7, (length, 1))
            guess = rng.random((length, 8)) + np.eye(8)[values[:, 0]] * 0.5
        else:
            values = rng.random((length, 12)) < np.linspace(0, 0.7, 12)
            guess = np.clip(values + rng.normal(0, 0.5, (length, 12)), 0, 1)
        values = values.astype(np.float32)
        values[1::7] = spec.invalid
        video = f"v{i}"
        labels[video] = VideoLabels(video, Split.VALIDATION, values, spec.valid(values))
        frames = np.arange(1, length + 1, dtype=np.int32)
        predictions[video] = VideoPredictions(video, frames, guess)
    return predictions, labels


def valid_rows(predictions, labels):
    """Predictions and labels of the valid frames, per video."""
    guess = [predictions[v].values[of.valid] for v, of in labels.items()]
    return guess, [of.values[of.valid] for of in labels.values()]


@pytest.mark.parametrize("task", list(Task))
def test_the_score_is_that_of_all_valid_frames_pooled(task):
    predictions, labels = make(task)
    guess, true = valid_rows(predictions, labels)
    result = evaluate(task, predictions, labels)
    expected = score(task, np.concatenate(guess), np.concatenate(true))
    assert (result.score, result.parts) == (expected.value, expected.parts)
    assert result.frames == sum(len(rows) for rows in true)
    assert result.videos == 5
    assert result.interval[0] < result.score < result.interval[1]


def test_frames_in_any_order_and_superfluous_ones_change_nothing():
    predictions, labels = make(Task.VA)
    expected = evaluate(Task.VA, predictions, labels)
    first = predictions["v0"]
    frames = np.append(first.frames, np.int32(9000))[::-1].copy()
    values = np.append(first.values, [[9.0, 9.0]], axis=0)[::-1].copy()
    predictions["v0"] = VideoPredictions("v0", frames, values)
    predictions["other"] = VideoPredictions("other", frames, values)
    assert evaluate(Task.VA, predictions, labels) == expected


def test_missing_frames_are_listed():
    predictions, labels = make(Task.EXPR)
    del predictions["v1"]
    first = predictions["v0"]
    predictions["v0"] = VideoPredictions("v0", first.frames[:-2], first.values[:-2])
    predictions["v2"] = VideoPredictions("v2", first.frames[:0], first.values[:0])
    with pytest.raises(DataError) as caught:
        evaluate(Task.EXPR, predictions, labels)
    missing = 2 + 1 + int(labels["v2"].valid.sum())
    assert f"{missing} valid frames have no prediction" in caught.value.got
    assert "v0/00039.jpg, v0/00040.jpg, v1/00001.jpg, v2/00001.jpg" in caught.value.got
    assert "more" in caught.value.got


def test_a_frame_without_a_valid_label_needs_no_prediction():
    predictions, labels = make(Task.AU)
    expected = evaluate(Task.AU, predictions, labels)
    for video, of in labels.items():
        own = predictions[video]
        predictions[video] = VideoPredictions(video, own.frames[of.valid], own.values[of.valid])
    assert evaluate(Task.AU, predictions, labels) == expected


@pytest.mark.parametrize("labels", [{}, None])
def test_nothing_to_evaluate_against(labels):
    if labels is None:
        values = np.full((3, 2), -5, np.float32)
        labels = {"a": VideoLabels("a", Split.VALIDATION, values, np.zeros(3, bool))}
    with pytest.raises(DataError, match="no valid VA label"):
        evaluate(Task.VA, {}, labels)


def test_the_interval_follows_the_seed_and_narrows_with_more_videos():
    predictions, labels = make(Task.VA, (30,) * 8)
    few = valid_rows(predictions, labels)
    many = valid_rows(*make(Task.VA, (30,) * 80))
    assert bootstrap(Task.VA, *few, seed=4) == bootstrap(Task.VA, *few, seed=4)
    assert bootstrap(Task.VA, *few, seed=4) != bootstrap(Task.VA, *few, seed=5)
    width = [high - low for low, high in (bootstrap(Task.VA, *few), bootstrap(Task.VA, *many))]
    assert width[1] < 0.6 * width[0]


def test_a_single_video_has_an_interval_without_width():
    predictions, labels = make(Task.EXPR, (30,))
    result = evaluate(Task.EXPR, predictions, labels)
    assert result.interval == pytest.approx((result.score, result.score))


def test_constant_predictions_score_zero_in_every_resample():
    predictions, labels = make(Task.VA)
    constant = {
        video: VideoPredictions(video, of.frames, np.full_like(of.values, 0.1))
        for video, of in predictions.items()
    }
    result = evaluate(Task.VA, constant, labels)
    assert result.score == 0.0
    assert result.interval == (0.0, 0.0)


def files(folder, task, labels, values):
    """Labels and predictions of these texts, by video, as files; what evaluate makes of them."""
    tree = RawTree(folder)
    rows = [header_of(task)]
    for video, lines in labels.items():
        tree.annotate(task, Split.VALIDATION, video, lines)
        rows += [f"{image_location(video, i)},{line}" for i, line in enumerate(values[video], 1)]
    path = folder / "p.csv"
    path.write_text("\n".join(rows) + "\n")
    return load_annotations(tree.annotations, task, Split.VALIDATION), read_predictions(path, task)


def exact_ccc(a, b):
    """Lin's coefficient in rational numbers, of the decimals as they stand in the files."""
    a, b = [Fraction(text) for text in a], [Fraction(text) for text in b]
    n, mean_a, mean_b = len(a), sum(a) / len(a), sum(b) / len(b)
    squares = sum((x - mean_a) ** 2 for x in a) + sum((y - mean_b) ** 2 for y in b)
    product = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return 2 * product / (squares + n * (mean_a - mean_b) ** 2)


@pytest.mark.parametrize("decimals", range(3, 18))
@pytest.mark.parametrize("spread", [1.0, 0.01])
def test_the_score_is_exact_on_the_decimals_of_the_files(tmp_path, decimals, spread):
    rng = np.random.default_rng(decimals)

    def texts(center):
        """Numbers of so many random decimals."""
        digits = rng.integers(0, 10, (30, 2, decimals))
        low = ["".join(map(str, digits[i, j])) for i in range(30) for j in range(2)]
        scaled = [Fraction(f"0.{d}") * Fraction(str(spread)) / 2 + center for d in low]
        whole = [round(value * 10**decimals) for value in scaled]
        numbers = [f"{'-' if w < 0 else ''}0.{abs(w):0{decimals}d}" for w in whole]
        return np.array(numbers).reshape(30, 2)

    labels = {video: texts(Fraction(1, 4)) for video in "ab"}
    values = {video: texts(Fraction(1, 3)) for video in "ab"}
    lines = [
        {v: [",".join(row) for row in rows] for v, rows in of.items()} for of in (labels, values)
    ]
    labels["a"][3] = "-5"
    lines[0]["a"][3] = "-5,-5"
    result = evaluate(Task.VA, *reversed(files(tmp_path, Task.VA, *lines)))
    valid = {"a": [i for i in range(30) if i != 3], "b": list(range(30))}
    for column, name in enumerate(("valence", "arousal")):
        pooled = [[of[v][i, column] for v in "ab" for i in valid[v]] for of in (values, labels)]
        assert abs(Fraction(result.parts[name]) - exact_ccc(*pooled)) < Fraction(1, 10**11)


def test_the_largest_class_and_the_threshold_are_those_of_the_decimals(tmp_path):
    rows = {
        "0.3,0.30000000000000004,0,0,0,0,0,0": 1,
        "0.1,0.1,0,0,0,0,0,0.1": 0,
        "0.29999999999999999,0.3,0,0,0,0,0,0": 0,
        "0,0,0.12345678901,0.12345678902,0,0,0,0": 3,
    }
    labels, values = files(
        tmp_path / "expr", Task.EXPR, {"a": [str(c) for c in rows.values()]}, {"a": list(rows)}
    )
    assert evaluate(Task.EXPR, values, labels).parts["Neutral"] == 1.0
    assert evaluate(Task.EXPR, values, labels).score == pytest.approx(3 / 8)
    texts = ["0.5", "0.49999999999", "0.500000000000000000", "0.4999999999999999"]
    labels, values = files(
        tmp_path / "au",
        Task.AU,
        {"a": [",".join(["1"] * 12)] * 4},
        {"a": [",".join([text] * 12) for text in texts]},
    )
    assert evaluate(Task.AU, values, labels).score == pytest.approx(2 * 2 / (2 + 4))


@pytest.mark.parametrize("task", list(Task))
def test_as_submitted_is_the_score_of_what_submission_writes(tmp_path, task):
    predictions, labels = make(task)
    if task is Task.VA:
        predictions = {
            video: VideoPredictions(video, of.frames, of.values * 1.7)
            for video, of in predictions.items()
        }
    example = tmp_path / "example.txt"
    names = [image_location(v, f) for v, of in predictions.items() for f in of.frames.tolist()]
    example.write_text("\n".join([header_of(task), *names]) + "\n")
    write_submission(task, predictions, example, tmp_path / "out.txt")
    written = evaluate(task, read_predictions(tmp_path / "out.txt", task), labels)
    raw = evaluate(task, predictions, labels)
    result = evaluate(task, predictions, labels, submitted=True)
    assert (result.score, result.parts, result.interval) == (
        written.score,
        written.parts,
        written.interval,
    )
    assert (result.as_submitted, raw.as_submitted) == (True, False)
    assert raw.submitted_score == result.submitted_score == result.score
    clipped = sum(int((np.abs(p) > 1).sum()) for p in valid_rows(predictions, labels)[0])
    assert raw.clipped == result.clipped == clipped * (task is Task.VA)
    assert (raw.score != result.score) == (task is Task.VA)


def test_a_models_values_score_the_same_from_their_file(tmp_path):
    predictions, labels = make(Task.VA)
    for video, of in predictions.items():
        single = of.values.astype(np.float32).astype(np.float64)
        predictions[video] = VideoPredictions(video, of.frames, single)
    write_predictions(tmp_path / "p.csv", Task.VA, predictions.values())
    again = evaluate(Task.VA, read_predictions(tmp_path / "p.csv", Task.VA), labels)
    assert again.score == pytest.approx(evaluate(Task.VA, predictions, labels).score, abs=1e-9)


def test_a_huge_frame_number_costs_nothing(tmp_path):
    labels, values = files(tmp_path, Task.VA, {"a": ["0,0", "1,1"]}, {"a": ["0,0", "1,1"]})
    expected = evaluate(Task.VA, values, labels)
    with (tmp_path / "p.csv").open("a") as file:
        file.write("a/999999999.jpg,0,0\nb/999999999.jpg,1,1\n")
    tracemalloc.start()
    assert evaluate(Task.VA, read_predictions(tmp_path / "p.csv", Task.VA), labels) == expected
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


@pytest.mark.parametrize("task", list(Task))
def test_a_validation_split_of_real_size_takes_seconds(task):
    predictions, labels = make(task, (5000,) * 80)
    began = time.perf_counter()
    evaluate(task, predictions, labels)
    assert time.perf_counter() - began < 10


@pytest.mark.parametrize("task", list(Task))
def test_as_paper_counts_whole_segments_and_overlaps_again(task):
    predictions, labels = make(task, (299, 300, 499, 501, 740, 1101, 40), seed=5)
    result = evaluate(task, predictions, labels, as_paper=True)
    kept, true = [], []
    for video, of in labels.items():
        start = 0
        while start + 300 <= len(of.values):
            for frame in range(start, start + 300):
                if of.valid[frame]:
                    kept.append(predictions[video].values[frame])
                    true.append(of.values[frame])
            start += 200
    p, y = np.array(kept), np.array(true, np.float64)
    if task is Task.VA:
        ccc = []
        for a, b in zip(p.T, y.T, strict=True):
            (var_a, both), (_, var_b) = np.cov(a, b, bias=True)
            ccc.append(2 * both / (var_a + var_b + (a.mean() - b.mean()) ** 2))
        expected = np.mean(ccc)
    elif task is Task.EXPR:
        expected = f1_score(
            y[:, 0], p.argmax(axis=1), labels=range(8), average="macro", zero_division=0
        )
    else:
        expected = f1_score(y, p >= 0.5, average="macro", zero_division=0)
    assert result.paper_score == pytest.approx(expected, abs=1e-12)
    assert result.score == evaluate(task, predictions, labels).score != result.paper_score
    assert evaluate(task, predictions, labels).paper_score is None


def test_as_paper_has_no_score_of_short_videos():
    predictions, labels = make(Task.VA, (299, 40))
    assert evaluate(Task.VA, predictions, labels, as_paper=True).paper_score is None
