import numpy as np
import pytest

from raffect.affwild2.baseline import trivial_prediction, trivial_score
from raffect.affwild2.evaluation import evaluate
from raffect.affwild2.labels import VideoLabels
from raffect.affwild2.predictions import VideoPredictions
from raffect.affwild2.scores import f1
from raffect.affwild2.tasks import Split, Task
from tests.temporal.builders import small_videos


def labels_of(task):
    return {video.name: video.labels[task] for video in small_videos()}


def validation_of(task):
    return {name: of for name, of in labels_of(task).items() if of.split is Split.VALIDATION}


@pytest.mark.parametrize("task", list(Task))
def test_the_score_is_that_of_evaluating_the_predictions(task):
    labels = labels_of(task)
    train = {name: of for name, of in labels.items() if of.split is Split.TRAIN}
    row = trivial_prediction(task, train)
    predictions = {}
    for name, of in validation_of(task).items():
        frames = np.arange(1, len(of.valid) + 1, dtype=np.int32)
        predictions[name] = VideoPredictions(name, frames, np.tile(row, (len(frames), 1)))
    expected = evaluate(task, predictions, validation_of(task))
    assert trivial_score(task, labels, labels).value == pytest.approx(expected.score, abs=1e-12)


def test_valence_arousal_floor_is_zero():
    labels = labels_of(Task.VA)
    assert trivial_score(Task.VA, labels, labels).value == 0.0


def test_expression_floor_is_the_class_most_frequent_in_train():
    def video(name, split, classes):
        values = np.array(classes, np.float32)[:, None]
        return VideoLabels(name, split, values, values[:, 0] >= 0)

    labels = {
        "a": video("a", Split.TRAIN, [7, 7, 7, 0, -1, -1, -1, -1]),
        "b": video("b", Split.VALIDATION, [0, 0, 0, 7]),
    }
    assert trivial_prediction(Task.EXPR, {"a": labels["a"]}).argmax() == 7
    result = trivial_score(Task.EXPR, labels, labels)
    assert result.value == pytest.approx(2 * 1 / (4 + 1) / 8)


def test_the_field_s_own_floors():
    """Always-Other on the class counts of the real set, and all action units active."""
    counts = np.array([82258, 6126, 5296, 8408, 34511, 25157, 12332, 106444])
    values = np.repeat(np.arange(8), counts)[:, None].astype(np.float32)
    train = {"t": VideoLabels("t", Split.TRAIN, np.full((2, 1), 7, np.float32), np.ones(2, bool))}
    validation = {"v": VideoLabels("v", Split.VALIDATION, values, np.ones(len(values), bool))}
    assert trivial_score(Task.EXPR, train, validation).value == pytest.approx(0.069, abs=5e-4)

    labels = labels_of(Task.AU)
    true = np.concatenate([of.values[of.valid] for of in validation_of(Task.AU).values()])
    positive = (true == 1).sum(axis=0)
    expected = f1(positive, np.full(12, len(true)), positive).mean()
    assert trivial_score(Task.AU, labels, labels).value == pytest.approx(expected)
