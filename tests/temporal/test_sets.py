"""Several sets of features side by side, and how a model's input is normalised."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from raffect.affwild2.tasks import Split, Task
from raffect.config import recipe
from raffect.errors import ConflictError, NotThereError, SettingsError
from raffect.settings import hash_json
from raffect.store import DATASET, Store, read_manifest
from raffect.temporal.batches import DeviceTimelines
from raffect.temporal.data import TaskData, load_split, load_task_data, sets_of
from raffect.temporal.inference import load_bundle, predict_split, predict_videos
from raffect.temporal.model import TemporalModel, count_parameters
from raffect.temporal.normalise import Normalise, training_statistics
from raffect.temporal.rows import read_features
from raffect.temporal.segments import Segments
from raffect.temporal.train import train
from raffect.temporal.training import Trainer
from tests.temporal.builders import DIM, Video, small_config, small_videos, write_features

AUDIO = 5
BOTH = ["clip", "audio"]


def with_audio(store: Store) -> list[Video]:
    """Add features of other frames and another scale: a gap, a late start, a video without any."""
    rng = np.random.default_rng(4)
    videos = []
    for i, video in enumerate(small_videos()):
        length = len(video.labels[Task.VA].valid)
        frames = np.arange(1, length, dtype=np.int32)
        if i == 0:
            frames = frames[10:]
        if i in (2, 5):
            frames = np.delete(frames, slice(12, 20))
        if video.name == "validation-1":
            frames = frames[:0]
        values = (100 + 30 * rng.normal(size=(len(frames), AUDIO))).astype(np.float32)
        videos.append(replace(video, frames=frames, features=values))
    write_features(store, videos, "audio", read_manifest(store, DATASET).digest(), "float32")
    return videos


@pytest.fixture
def audio(small_store: Store) -> list[Video]:
    return with_audio(small_store)


def by_hand(video: Video, length: int) -> tuple[np.ndarray, np.ndarray]:
    """What one set shows at each frame, and whether it has a row of its own there."""
    values = np.zeros((length, video.features.shape[1]), np.float32)
    for frame in range(1, length + 1):
        earlier = np.flatnonzero(video.frames <= frame)
        if len(video.frames):
            values[frame - 1] = video.features[earlier[-1] if len(earlier) else 0]
    return values, np.isin(np.arange(1, length + 1), video.frames)


def gathered(data: TaskData, video: int) -> tuple[np.ndarray, np.ndarray]:
    """A training video's input as the model gets it."""
    timelines = data.train
    resident = DeviceTimelines(data.features, timelines, torch.device("cpu"))
    length = int(timelines.lengths[video])
    one = Segments(timelines.offsets[video : video + 1], np.array([length]), length)
    batch = resident.gather(one)
    return batch.x[0].numpy(), batch.present[0].numpy()


def same_models(one: Trainer, other: Trainer) -> bool:
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[k], theirs[k]) for k in ours)


def trained(data: TaskData, epochs: int = 2, **changes: object) -> Trainer:
    trainer = Trainer(small_config(data.task, **changes), data)
    for _ in range(epochs):
        trainer.run_epoch()
    return trainer


def test_each_set_shows_its_own_nearest_earlier_row(small_store: Store, audio: list[Video]):
    data = load_task_data(small_store, BOTH, Task.VA)
    assert data.dims == (DIM, AUDIO)
    assert data.features.dtype == np.float32
    sets = [{video.name: video for video in videos} for videos in (small_videos(), audio)]
    for i, name in enumerate(data.train.videos):
        x, present = gathered(data, i)
        parts = [by_hand(videos[name], len(x)) for videos in sets]
        clip = parts[0][0].astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(x, np.concatenate([clip, parts[1][0]], axis=1))
        np.testing.assert_array_equal(present, np.stack([own for _, own in parts], axis=1))
    # A frame that both have takes one row.
    frames = [{(v.name, f) for v in of.values() for f in v.frames.tolist()} for of in sets]
    assert len(data.features) == len(frames[0] | frames[1])


@pytest.mark.parametrize("seed", range(4))
def test_gaps_of_any_kind_are_filled_per_set(small_store: Store, seed: int):
    """Three sets with random frames, some with none of a video, against a loop over frames."""
    rng = np.random.default_rng(seed)
    dataset = read_manifest(small_store, DATASET).digest()
    sets = []
    for i, share in enumerate((0.9, 0.4, 0.1)):
        videos = {}
        for video in small_videos():
            length = len(video.labels[Task.VA].valid)
            frames = np.flatnonzero(rng.random(length) < share).astype(np.int32) + 1
            values = rng.integers(1, 100, (len(frames), 2)).astype(np.float32)
            videos[video.name] = replace(video, frames=frames, features=values)
        write_features(small_store, list(videos.values()), f"set{i}", dataset)
        sets.append(videos)
    data = load_task_data(small_store, ["set0", "set1", "set2"], Task.VA)
    for i, name in enumerate(data.train.videos):
        x, present = gathered(data, i)
        parts = [by_hand(videos[name], len(x)) for videos in sets]
        np.testing.assert_array_equal(x, np.concatenate([values for values, _ in parts], axis=1))
        np.testing.assert_array_equal(present, np.stack([own for _, own in parts], axis=1))


def test_a_video_that_a_set_does_not_have_shows_zeros(small_store: Store, audio: list[Video]):
    rows = read_features(small_store, BOTH, ["validation-1"])
    assert rows.own is not None
    assert rows.own.tolist() == [[True, False]] * len(rows.values)
    assert not rows.values[:, DIM:].any()
    assert rows.values[:, :DIM].any()


def test_videos_of_no_set_have_no_row(small_store: Store, audio: list[Video]):
    rows = read_features(small_store, BOTH, ["nobody"])
    timelines = rows.timelines(["nobody"], {})
    assert timelines.present.shape == (0, 2)
    assert not len(rows.values)


def test_two_sets_train_as_one_that_was_put_together_by_hand(small_store: Store):
    """To the bit: weights, masks and the order of random numbers do not know of sets."""
    videos = small_videos()
    dataset = read_manifest(small_store, DATASET).digest()
    halves = [replace(v, features=v.features[:, :7]) for v in videos]
    others = [replace(v, features=v.features[:, 7:]) for v in videos]
    write_features(small_store, halves, "one", dataset)
    write_features(small_store, others, "two", dataset)
    whole = trained(load_task_data(small_store, "clip", Task.EXPR))
    both = load_task_data(small_store, ["one", "two"], Task.EXPR)
    assert both.features.dtype == np.float16
    assert same_models(trained(both), whole)
    assert not same_models(trained(load_task_data(small_store, ["two", "one"], Task.EXPR)), whole)


@pytest.mark.parametrize("auxiliary", [0.0, 0.3])
def test_one_set_alone_trains_as_before_there_could_be_several(
    small_store: Store, auxiliary: float
):
    """Scores of two epochs, and the digest by which checkpoints know their data, of 0.3.

    The scores are those since the masks of dropout are drawn otherwise.
    """
    data = load_task_data(small_store, "clip", Task.VA, list(Task) if auxiliary else [])
    weights = {"losses__auxiliary__expr": auxiliary, "losses__auxiliary__au": auxiliary}
    scores = [epoch.score for epoch in trained(data, **weights).history]
    before = {0.0: [0.14141108, 0.23443084], 0.3: [0.13577997, 0.21882371]}
    assert scores == pytest.approx(before[auxiliary], abs=1e-6)
    folders = (DATASET, "features/clip")
    made_from = {of: read_manifest(small_store, of).digest() for of in folders}
    assert data.digest == hash_json(made_from)


def test_one_set_in_a_list_is_that_set_alone(small_store: Store):
    alone, listed = (load_task_data(small_store, of, Task.AU) for of in ("clip", ["clip"]))
    assert (alone.digest, alone.lineage) == (listed.digest, listed.lineage)
    assert same_models(trained(alone, 1), trained(listed, 1))


def test_the_embedding_of_a_missing_set_is_its_own():
    model = TemporalModel(small_config(Task.VA, model__tcn__depth=0), (3, 2)).eval()
    seen: list[torch.Tensor] = []
    model.tcn.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model.missing.copy_(torch.tensor([1.0, 2, 3, 40, 50]))
        x = torch.randn(1, 4, 5)
        present = torch.tensor([[[1, 1], [0, 1], [1, 0], [0, 0]]], dtype=torch.bool)
        model(x, present)
        model(x, present[..., 0])
    added = seen[0].transpose(1, 2)[0] - x[0]
    expected = [[0, 0, 0, 0, 0], [1, 2, 3, 0, 0], [0, 0, 0, 40, 50], [1, 2, 3, 40, 50]]
    torch.testing.assert_close(added, torch.tensor(expected, dtype=torch.float32))
    whole = seen[1].transpose(1, 2)[0] - x[0]
    torch.testing.assert_close(whole, torch.tensor([expected[0], expected[3]] * 2).float())


def test_statistics_are_those_of_each_sets_own_training_frames(
    small_store: Store, audio: list[Video]
):
    constant = [replace(v, features=np.full_like(v.features, 0.1)) for v in small_videos()]
    write_features(small_store, constant, "still", read_manifest(small_store, DATASET).digest())
    data = load_task_data(small_store, [*BOTH, "still"], Task.VA)
    mean, std = training_statistics(data)
    for videos, columns, dtype in (
        (small_videos(), slice(0, DIM), np.float16),
        (audio, slice(DIM, DIM + AUDIO), np.float32),
    ):
        own = np.concatenate([v.features for v in videos if v.name.startswith("train")])
        exact = own.astype(dtype).astype(np.float64)
        np.testing.assert_allclose(mean[columns], exact.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(std[columns], exact.std(axis=0), rtol=1e-12)
    assert (std[DIM + AUDIO :] == 1).all()


@pytest.mark.parametrize("how", ["zscore", "l2"])
def test_normalised_input_against_numpy(how: str):
    rng = np.random.default_rng(2)
    values = rng.normal(50, 20, (2, 6, 5)).astype(np.float32)
    values[0, 2, 3:] = 0
    mean, std = rng.normal(50, 1, 5), rng.uniform(5, 20, 5)
    absent = np.zeros((2, 6, 2), bool)
    absent[0, 2:, 1] = True
    module = Normalise(how, (3, 2))
    expected = values.astype(np.float64)
    if how == "zscore":
        module.learn(mean, std)
        expected = (expected - mean) / std
        # Of a video without a row of this set; the frames that are filled are not zero.
        expected[0, 2, 3:] = 0
    else:
        for part in (slice(0, 3), slice(3, 5)):
            length = np.linalg.norm(expected[..., part], axis=-1, keepdims=True)
            expected[..., part] /= np.where(length == 0, 1, length)
    found = module(torch.from_numpy(values), torch.from_numpy(absent))
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-5, atol=2e-6)


def test_a_zscore_model_sees_what_a_plain_one_sees_of_scaled_features(small_store: Store):
    """The same network on features that were scaled beforehand predicts the same."""
    data = load_task_data(small_store, "clip", Task.VA)
    mean, std = training_statistics(data)
    scaled = replace(data, features=((data.features - mean) / std).astype(np.float32))
    one, other = trained(data, 1, model__input="zscore"), trained(scaled, 1)
    assert one.history[0].score == pytest.approx(other.history[0].score, abs=1e-4)
    assert one.history[0].score != trained(data, 1).history[0].score


def test_a_model_of_several_sets_predicts_its_score_again(small_store: Store, audio: list[Video]):
    config = small_config(Task.VA, optimiser__epochs=2, model__input="zscore")
    manifest = train(small_store, config, BOTH, "m")
    assert manifest.config["features"] == BOTH
    bundle = load_bundle(small_store, "models/m")
    assert bundle.model.dims == (DIM, AUDIO)
    assert bundle.model.normalise.mean[DIM:].tolist() == pytest.approx([100] * AUDIO, rel=0.1)
    assert [each.name for each in sets_of(bundle.lineage)] == BOTH
    assert set(bundle.lineage["sources"]) == {"dataset", "features/clip", "features/audio"}
    predicted = predict_split(small_store, bundle, Split.VALIDATION)
    again = predict_videos(small_store, bundle, {v.video: 1 for v in predicted})
    _, timelines = load_split(small_store, BOTH, Task.VA, Split.VALIDATION)
    for one, other, seen in zip(predicted, again, timelines.seen, strict=True):
        np.testing.assert_allclose(one.values[:seen], other.values[:seen], atol=1e-6)
    with_audio_again = [replace(v, features=v.features + 1) for v in audio]
    dataset = read_manifest(small_store, DATASET).digest()
    write_features(small_store, with_audio_again, "audio", dataset)
    with pytest.raises(ConflictError, match="'audio' are not those"):
        predict_split(small_store, bundle, Split.VALIDATION)


def test_an_interrupted_training_keeps_its_statistics(small_store: Store, audio: list[Video]):
    data = load_task_data(small_store, BOTH, Task.VA)
    whole = trained(data, 2, model__input="zscore")
    begun = trained(data, 1, model__input="zscore")
    resumed = Trainer(begun.config, data)
    resumed.restore(begun.save())
    resumed.run_epoch()
    assert same_models(resumed, whole)
    other = load_task_data(small_store, BOTH[::-1], Task.VA)
    with pytest.raises(ValueError, match="other settings or data"):
        Trainer(begun.config, other).restore(begun.save())


def test_normalising_adds_no_parameters(small_store: Store, audio: list[Video]):
    config = small_config(Task.VA, model__input="zscore")
    made = TemporalModel(config, (DIM, AUDIO))
    assert count_parameters(config, DIM + AUDIO) == sum(p.numel() for p in made.parameters())
    plain = TemporalModel(small_config(Task.VA), DIM).state_dict()
    assert not [name for name in plain if name.startswith("normalise")]


@pytest.mark.parametrize("names", [[], ["clip", "clip"]])
def test_sets_are_named_once(small_store: Store, names: list[str]):
    with pytest.raises(SettingsError, match="each once"):
        load_task_data(small_store, names, Task.VA)


def test_features_of_no_training_video_are_refused(small_store: Store):
    rest = [v for v in small_videos() if v.name.startswith("validation")]
    write_features(small_store, rest, "rest", read_manifest(small_store, DATASET).digest())
    with pytest.raises(NotThereError, match="rest have no row of the training videos of va"):
        load_task_data(small_store, ["clip", "rest"], Task.VA)


def test_the_recipe_normalises_several_sets_and_leaves_one_as_it_is():
    assert recipe(Task.VA).model.input == recipe(Task.VA, 1).model.input == "none"
    assert recipe(Task.VA, 2).model.input == "zscore"
    assert "input" not in recipe(Task.VA).identity()["model"]
