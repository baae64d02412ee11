"""Ensembles: averages against NumPy, greedy selection, and a score that is honest and the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raffect.affwild2.evaluation import evaluate
from raffect.affwild2.folds import load_fold
from raffect.affwild2.labels import VideoLabels
from raffect.affwild2.predictions import VideoPredictions, read_predictions
from raffect.affwild2.scores import score
from raffect.affwild2.sums import VideoSums, score_sums
from raffect.affwild2.tasks import Split, Task, source_of
from raffect.cli.app import run
from raffect.errors import ConflictError, NotThereError, SettingsError
from raffect.store import DATASET, Store, read_manifest
from raffect.temporal import inference
from raffect.temporal.data import load_split
from raffect.temporal.ensemble import (
    load_ensemble,
    mean_of,
    predict_split,
    predict_videos,
    select,
)
from raffect.temporal.ensembling import make_ensemble, read_metrics
from raffect.temporal.train import train
from tests.temporal.builders import Video, fill, make_video, small_config, write_features

Values = dict[str, np.ndarray]


def videos() -> list[Video]:
    """Six training and six validation videos; two of the latter are subjects of one source."""
    names = ["d_left", "d_right", "e", "f", "g", "h"]
    return [
        *(make_video(f"train-{i}", Split.TRAIN, 60, i) for i in range(6)),
        *(make_video(n, Split.VALIDATION, 40 + i, 10 + i) for i, n in enumerate(names)),
    ]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """a and b of features `clip`, c of `other`, d post-processed; one of EXPR, one of a fold."""
    store = Store(str(tmp_path_factory.mktemp("ensemble")))
    fill(store, videos())
    write_features(store, videos(), "other", read_manifest(store, DATASET).digest())
    quick = {"optimiser__epochs": 2}
    train(store, small_config(Task.VA, **quick), "clip", "a")
    train(store, small_config(Task.VA, run__seed=1, **quick), "clip", "b")
    train(store, small_config(Task.VA, run__seed=2, **quick), "other", "c")
    train(store, small_config(Task.VA, postprocess="fit", **quick), "clip", "d")
    train(store, small_config(Task.EXPR, **quick), "clip", "expr")
    train(store, small_config(Task.VA, fold="1/2", **quick), "clip", "fold")
    return store


def named(*names: str) -> list[tuple[str, str]]:
    return [(name, f"models/{name}") for name in names]


def held(store: Store) -> dict[str, VideoLabels]:
    labels = load_fold(store, Task.VA, None)
    return {name: of for name, of in labels.items() if of.split is Split.VALIDATION}


def by_video(found: list[VideoPredictions]) -> Values:
    return {each.video: each.values for each in found}


def alone(store: Store, name: str, split: Split = Split.VALIDATION) -> Values:
    """A model's predictions without an ensemble."""
    bundle = inference.load_bundle(store, f"models/{name}")
    return by_video(inference.predict_split(store, bundle, split))


def together(store: Store, name: str, split: Split = Split.VALIDATION) -> Values:
    return by_video(predict_split(store, load_ensemble(store, f"models/{name}"), split))


def same(found: Values, expected: Values) -> bool:
    pairs = ((found[video], expected[video]) for video in expected)
    return found.keys() == expected.keys() and all(np.array_equal(*pair) for pair in pairs)


def score_of(store: Store, found: Values) -> float:
    frames = {
        video: VideoPredictions(video, np.arange(1, len(of) + 1, dtype=np.int32), of)
        for video, of in found.items()
    }
    return evaluate(Task.VA, frames, held(store)).score


def pooled(found: Values, names: Collection[str], labels: Mapping[str, VideoLabels]) -> np.ndarray:
    return np.concatenate([found[v][: len(labels[v].valid)][labels[v].valid] for v in names])


def truth(names: Collection[str], labels: Mapping[str, VideoLabels]) -> np.ndarray:
    return np.concatenate([labels[v].values[labels[v].valid] for v in names])


@pytest.mark.parametrize("name", ["a", "d"])
@pytest.mark.parametrize("method", ["mean", "greedy"])
def test_an_ensemble_of_one_is_the_model_to_the_bit(models: Store, name: str, method: str) -> None:
    called = f"one-{name}-{method}"
    made = make_ensemble(models, called, named(name), method)
    for split in Split:
        expected = alone(models, name, split)
        assert same(together(models, called, split), expected)
        # Predicting with a model is predicting with an ensemble of one.
        assert same(together(models, name, split), expected)
    lengths = {"e": 70, "train-1": 1}
    bundle = inference.load_bundle(models, f"models/{name}")
    expected = by_video(inference.predict_videos(models, bundle, lengths))
    ensemble = load_ensemble(models, f"models/{called}")
    assert same(by_video(predict_videos(models, ensemble, lengths)), expected)
    assert made.counts["score"] == bundle.metrics["score"]


def test_the_mean_of_models_of_different_features_is_that_of_numpy(models: Store) -> None:
    make_ensemble(models, "mean", named("a", "b", "c"), "mean")
    each = [alone(models, name) for name in "abc"]
    for video, values in together(models, "mean").items():
        expected = np.mean([of[video] for of in each], axis=0)
        np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-7)
    weights = [of["weight"] for of in read_metrics(models, "mean")["members"]]
    assert weights == pytest.approx([1 / 3] * 3)


def test_the_reported_score_is_cross_fitted_and_that_of_predict(models: Store) -> None:
    manifest = make_ensemble(models, "greedy", named("a", "b", "c"))
    reported = read_metrics(models, "greedy")["score"]
    assert manifest.counts["score"] == reported
    assert score_of(models, together(models, "greedy")) == pytest.approx(reported, abs=1e-12)
    sums = VideoSums.from_bytes(models.read_bytes("models/greedy/sums.parquet"))
    once = np.ones((1, len(sums.videos)), np.int64)
    assert score_sums(Task.VA, once, sums.at(1))[0] == pytest.approx(reported, abs=1e-12)

    # Recomputed: the weights of each half from the other half's frames alone.
    labels, each = held(models), [alone(models, name) for name in "abc"]
    weights = load_ensemble(models, "models/greedy").weights
    first, second = weights.groups
    assert sorted([*first, *second]) == sorted(labels)
    assert {source_of(v) for v in first}.isdisjoint(source_of(v) for v in second)
    expected = {}
    for group, other in ((first, second), (second, first)):
        counts = plain_greedy([pooled(of, other, labels) for of in each], truth(other, labels))
        for video in group:
            values = [n * of[video] for n, of in zip(counts, each, strict=True)]
            expected[video] = np.sum(values, axis=0) / sum(counts)
    assert score_of(models, expected) == pytest.approx(reported, abs=1e-6)
    counts = plain_greedy([pooled(of, labels, labels) for of in each], truth(labels, labels))
    assert weights.final == tuple(counts)
    parts = [alone(models, name, Split.TRAIN) for name in "abc"]
    for video, values in together(models, "greedy", Split.TRAIN).items():
        mixed = np.average([of[video] for of in parts], axis=0, weights=counts)
        np.testing.assert_allclose(values, mixed, rtol=1e-6, atol=1e-7)


def plain_greedy(members: list[np.ndarray], true: np.ndarray, rounds: int = 25) -> list[int]:
    """The members' counts, written anew: lists of members, and CCC by its formula."""

    def ccc(values: np.ndarray) -> float:
        x, y = values.astype(np.float32).astype(float), true.astype(float)
        found = 2 * ((x - x.mean(0)) * (y - y.mean(0))).mean(0)
        return float((found / (x.var(0) + y.var(0) + (x.mean(0) - y.mean(0)) ** 2)).mean())

    taken: list[int] = []
    best, kept = ccc(np.mean(members, axis=0)), list(range(len(members)))
    for _ in range(rounds):
        tried = [[*taken, i] for i in range(len(members))]
        scores = [ccc(np.mean([members[j] for j in each], axis=0)) for each in tried]
        taken.append(int(np.argmax(scores)))
        if max(scores) > best:
            best, kept = max(scores), list(taken)
    return [kept.count(i) for i in range(len(members))]


def test_post_processing_of_what_chooses_the_weights_has_not_seen_the_videos_either(
    models: Store,
) -> None:
    make_ensemble(models, "post", named("a", "d"))
    ensemble = load_ensemble(models, "models/post")
    a, d = ensemble.members
    assert a.postprocess is None
    assert d.postprocess is not None
    groups = ensemble.weights.groups
    assert set(d.postprocess.groups) == set(groups)
    labels, plain = held(models), alone(models, "a")
    features, timelines = load_split(models, "clip", Task.VA, Split.VALIDATION)
    raw = dict(
        zip(
            timelines.videos,
            inference.predict(d.model, d.config, features, timelines),
            strict=True,
        )
    )
    seen = dict(zip(timelines.videos, timelines.seen.tolist(), strict=True))
    for group, other in (groups, groups[::-1]):
        # Fitted on `other`, as the values that the group's videos have.
        finished = {video: d.finish(raw[video], seen[video], group[0]) for video in other}
        members = [pooled(plain, other, labels), pooled(finished, other, labels)]
        assert ensemble.weights.of(group[0]) == select(Task.VA, members, truth(other, labels))
    metrics = read_metrics(models, "post")
    assert score_of(models, together(models, "post")) == pytest.approx(metrics["score"], abs=1e-12)
    found = by_video(predict_split(models, ensemble.raw(), Split.VALIDATION))
    assert score_of(models, found) == pytest.approx(metrics["raw"], abs=1e-12)


@given(st.integers(0, 10**6), st.sampled_from(list(Task)), st.integers(1, 4))
def test_greedy_selection_is_never_worse_on_the_data_that_chose_it(
    seed: int, task: Task, size: int
) -> None:
    rng = np.random.default_rng(seed)
    if task is Task.VA:
        labels = rng.uniform(-1, 1, (30, 2))
        members = [labels * rng.random() + rng.normal(0, 0.5, (30, 2)) for _ in range(size)]
    elif task is Task.EXPR:
        labels = rng.integers(0, 8, (30, 1))
        true = np.eye(8)[labels[:, 0]]
        members = [rng.dirichlet(np.ones(8), 30) + 0.3 * true for _ in range(size)]
    else:
        labels = rng.integers(0, 2, (30, 12))
        members = [rng.random((30, 12)) * 0.7 + labels * 0.3 for _ in range(size)]
    members = [of.astype(np.float32) for of in members]
    counts = select(task, members, labels)
    assert len(counts) == size
    found = score(task, mean_of(members, counts), labels).value
    for of in (*members, mean_of(members, (1,) * size)):
        assert found >= score(task, of, labels).value - 1e-9


def test_the_folder_needs_none_of_the_models(models: Store, tmp_path: Path) -> None:
    make_ensemble(models, "whole", named("a", "c"), "mean")
    copy = Store(str(tmp_path / "copy"))
    shutil.copytree(models.uri, copy.uri)
    for name in ("a", "c"):
        copy.delete(f"models/{name}")
    assert same(together(copy, "whole"), together(models, "whole"))
    manifest = read_manifest(copy, "models/whole")
    files = {entry.name for entry in manifest.files}
    members = {f"members/{i:05d}/model.safetensors" for i in range(2)}
    assert {"config.json", "metrics.json", "sums.parquet", *members} <= files
    assert {"dataset", "features/clip", "features/other"} <= set(manifest.sources)
    assert [of["model"] for of in manifest.config["members"]] == ["a", "c"]
    # A folder without its manifest is unfinished.
    copy.delete("models/whole/manifest.json")
    with pytest.raises(NotThereError):
        load_ensemble(copy, "models/whole")


def test_given_again_nothing_is_done_and_other_members_are_a_conflict(models: Store) -> None:
    first = make_ensemble(models, "again", named("a", "b"), "mean")
    assert make_ensemble(models, "again", named("a", "b"), "mean") == first
    with pytest.raises(ConflictError, match="members"):
        make_ensemble(models, "again", named("a", "c"), "mean")


def test_what_does_not_go_together_is_refused(models: Store) -> None:
    make_ensemble(models, "inner", named("a", "b"), "mean")
    for wanted, method, words in (
        (named("a", "expr"), "mean", "different tasks: a of va, expr of expr"),
        (named("a", "fold"), "mean", "different videos: a of the official split, fold of 1/2"),
        (named("a", "a"), "mean", "named twice: models/a"),
        (named("a", "inner"), "mean", "'inner' is an ensemble itself"),
        (named("a", "b"), "best", "no method 'best'"),
    ):
        with pytest.raises(SettingsError, match=words):
            make_ensemble(models, "wrong", wanted, method)
    assert not models.exists("models/wrong/plan.json")


def test_greedy_needs_four_videos_and_the_mean_none(small_store: Store) -> None:
    train(small_store, small_config(Task.VA, optimiser__epochs=1), "clip", "m")
    with pytest.raises(SettingsError, match="3 validation videos"):
        make_ensemble(small_store, "e", named("m"))
    assert make_ensemble(small_store, "e", named("m"), "mean").counts["members"] == 1
    digest = read_manifest(small_store, DATASET).digest()
    write_features(small_store, videos(), "clip", digest)
    with pytest.raises(ConflictError, match="not those that this model was trained on"):
        make_ensemble(small_store, "other", named("m"), "mean")


def test_the_command_and_predict_agree(
    models: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--store", models.uri]
    command = ["ensemble", "a", "models/b", "--name", "said", *where]
    assert run([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["name"], told["task"], told["fold"], told["method"]) == (
        "said", "va", None, "greedy",
    )  # fmt: skip
    assert [of["model"] for of in told["members"]] == ["a", "models/b"]
    assert sum(of["weight"] for of in told["members"]) == pytest.approx(1)
    assert run(command) == 0
    shown = capsys.readouterr().out
    assert f"{told['score']:.4f}" in shown
    assert max(map(len, shown.splitlines()[:-1])) <= 80
    out = tmp_path / "va.csv"
    assert run(["predict", "said", "--split", "validation", "--out", str(out), *where]) == 0
    found = evaluate(Task.VA, read_predictions(out, Task.VA), held(models))
    assert found.score == pytest.approx(told["score"], abs=1e-8)
    capsys.readouterr()
    for names, words in (
        (["a", "b", "--top", "2"], "--top takes the best trials of one sweep"),
        (["a", "nothing"], "no model and no sweep 'nothing'"),
        (["a", "expr"], "Make an ensemble for each task"),
    ):
        assert run(["ensemble", *names, *where]) == 2
        assert words in capsys.readouterr().err
