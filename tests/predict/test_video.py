"""Videos as tables: the numbers are those of their crops, whoever else is in the picture."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from raffect.affwild2.predictions import read_predictions
from raffect.affwild2.tasks import SPECS, Task
from raffect.errors import DataError, SettingsError
from raffect.predict.chosen import choose
from raffect.predict.encoders import Encoders
from raffect.predict.files import predict_to_file
from raffect.predict.table import BOX, write_tables
from raffect.predict.video import VideoPredictor, persons_text
from raffect.store import Store
from raffect.video.detect import load_detector
from tests.predict.stores import TASKS
from tests.sweep import tiny
from tests.video.videos import Actor, crossing, make_video, pictures, still, write_video

CROP = (112, 112)


def head_turns(frames: int) -> list[np.ndarray]:
    """Crops of a face that moves."""
    actor = crossing((0, 0, 112), (-30, -20, 160), frames)
    return list(pictures([actor], frames, CROP))


def lossless(path: Path, images: list[np.ndarray]) -> Path:
    return write_video(path, iter(images), codec="ffv1", pixels="bgr0")


def predictor(store: Store, *models: str, aligned: bool = True, **more) -> VideoPredictor:
    chosen = choose(store, models)
    detector = None if aligned else load_detector()
    return VideoPredictor(chosen, Encoders.of(store, chosen.ensembles), detector, **more)


def values_of(predictor: VideoPredictor, path: Path) -> np.ndarray:
    table = predictor.predict(path).table
    columns = [name for own in predictor.chosen.columns for name in own]
    return np.stack([table[name].to_numpy() for name in columns], axis=1)


def test_an_aligned_video_has_the_numbers_of_its_crops(with_tasks: Store, tmp_path: Path):
    images = head_turns(70)
    folder = tmp_path / "clip"
    folder.mkdir()
    for number, image in enumerate(images, 1):
        Image.fromarray(image).save(buffer := io.BytesIO(), "PNG")
        (folder / f"{number:05d}.png").write_bytes(buffer.getvalue())
    predict_to_file(with_tasks, "va", tmp_path / "x.csv", frames=folder)
    crops = read_predictions(tmp_path / "x.csv", Task.VA)["clip"]
    video = lossless(tmp_path / "clip.mkv", images)
    found = predictor(with_tasks, "va").predict(video)
    assert found.table["frame"].to_pylist() == crops.frames.tolist()
    assert found.table["face"].to_pylist() == [True] * 70
    assert found.table["confidence"].null_count == 70
    got = np.stack([found.table[name].to_numpy() for name in ("valence", "arousal")], axis=1)
    np.testing.assert_array_equal(got, crops.values.astype(np.float32))


def test_several_models_in_one_table_equal_each_alone(with_tasks: Store, tmp_path: Path):
    video = lossless(tmp_path / "clip.mkv", head_turns(40))
    together = predictor(with_tasks, *TASKS)
    assert len(together.encoders.sets) == 1
    table = together.predict(video).table
    for name in TASKS:
        alone = predictor(with_tasks, name).predict(video).table
        assert alone.equals(table.select(alone.schema.names))


def test_columns_of_models_of_one_task_begin_with_their_names(with_tasks: Store):
    chosen = choose(with_tasks, ["va", "mine", "au"])
    assert chosen.columns[:2] == (("va.valence", "va.arousal"), ("mine.valence", "mine.arousal"))
    assert chosen.columns[2] == SPECS[Task.AU].columns
    with pytest.raises(SettingsError, match="named twice: models/va"):
        choose(with_tasks, ["va", "models/va"])


def test_a_still_picture_has_constant_curves_after_the_receptive_field(
    with_tasks: Store, tmp_path: Path
):
    """But for the seams, where a segment begins that has seen nothing before it."""
    (image,) = pictures([still(0, 0, 112)], 1, CROP)
    values = values_of(predictor(with_tasks, *TASKS), lossless(tmp_path / "s.mkv", [image] * 300))
    window, stride = tiny.SIZES["segments.window"], tiny.SIZES["segments.stride"]
    place = np.arange(300) % stride
    between = values[place >= window - stride]
    assert np.ptp(between, axis=0).max() < 1e-5
    cold = np.abs(values[0] - between[0])
    seams = np.abs(values[stride:] - between[0]).max(axis=0)
    assert cold.max() > 0.1
    assert (seams < cold.max() / 2).all()


def test_a_video_cut_in_two_agrees_where_the_cut_is_far(with_tasks: Store, tmp_path: Path):
    images = head_turns(240)
    of = predictor(with_tasks, *TASKS)
    whole = values_of(of, lossless(tmp_path / "whole.mkv", images))
    first = values_of(of, lossless(tmp_path / "first.mkv", images[:120]))
    second = values_of(of, lossless(tmp_path / "second.mkv", images[120:]))
    # The models look back only: the first half is that of the whole, up to batches' last bits.
    np.testing.assert_allclose(first, whole[:120], atol=2e-3)
    np.testing.assert_allclose(second[30:], whole[150:], atol=0.02)
    assert np.ptp(whole, axis=0).max() > 0.05


@pytest.fixture(scope="module")
def two_persons(with_tasks: Store, tmp_path_factory: pytest.TempPathFactory):
    """A video of two faces, one of which is hidden for a while and leaves early; all persons."""
    path = tmp_path_factory.mktemp("two") / "two.mp4"
    leaves = Actor(
        lambda frame: None if 10 <= frame < 14 or frame >= 20 else (190, 50, 110), mirrored=True
    )
    make_video(path, [still(20, 60), leaves], 26)
    return path, predictor(with_tasks, *TASKS, aligned=False).predict(path, thumbnails=True)


def test_each_person_has_a_row_per_frame_from_its_first_face_to_its_last(two_persons):
    _, found = two_persons
    table = found.table.to_pandas()
    assert table["person"].tolist() == [0] * 26 + [1] * 20
    one = table[table["person"] == 1]
    assert one["frame"].tolist() == list(range(1, 21))
    assert one["frame"][~one["face"]].tolist() == [11, 12, 13, 14]
    np.testing.assert_allclose(table["time"], (table["frame"] - 1) / 25, atol=1e-6)
    seen = table["face"]
    assert table.loc[seen, ["confidence", *BOX]].notna().all(axis=None)
    assert table.loc[~seen, ["confidence", *BOX]].isna().all(axis=None)
    assert (
        table[[name for own in map(SPECS.get, Task) for name in own.columns]]
        .notna()
        .all(axis=None)
    )
    assert (table.loc[seen, "confidence"] > 0.5).all()
    assert persons_text(found.summary) == "2 persons: 0 in 26 of 26, 1 in 16 of 20 frames"


def test_a_frame_without_a_face_is_predicted_as_in_training(two_persons, with_tasks: Store):
    """By the model of the crops that there are, with those frames marked as absent."""
    from raffect.temporal.inference import predict_features
    from raffect.video.crops import find_crops
    from raffect.video.decode import open_video
    from raffect.video.people import People

    path, found = two_persons
    with open_video(path) as video:
        every = list(find_crops(video.frames(), load_detector(), People()))
    crops = {frame.number: c.pixels for frame, of in every for c in of if c.person == 1}
    chosen = choose(with_tasks, ["va"])
    (features,) = Encoders.of(with_tasks, chosen.ensembles).encode(list(crops.values())).values()
    member = chosen.ensembles[0].members[0]
    expected = predict_features(member, features, np.array(list(crops)), 20)
    rows = found.table.to_pandas().query("person == 1")[["valence", "arousal"]]
    np.testing.assert_allclose(rows, expected, atol=1e-3)


def test_persons_are_chosen_by_number_and_have_the_same_values(two_persons, with_tasks: Store):
    path, found = two_persons
    alone = predictor(with_tasks, "va", aligned=False, wanted=(1, 9)).predict(path)
    assert alone.summary.absent == (9,)
    table = found.table.to_pandas().query("person == 1")
    np.testing.assert_allclose(alone.table["valence"], table["valence"], atol=1e-3)
    with pytest.raises(DataError, match=r"no person 7(?s:.*)its persons: 0, 1"):
        predictor(with_tasks, "va", aligned=False, wanted=(7,)).predict(path)


def test_a_video_without_a_face_is_refused_in_one_message(with_tasks: Store, tmp_path: Path):
    video = make_video(tmp_path / "wall.mp4", [], 5)
    with pytest.raises(DataError, match=r"No face was found in the 5 frames of wall\.mp4"):
        predictor(with_tasks, "va", aligned=False).predict(video)


def test_the_same_video_twice_gives_the_same_bytes(two_persons, with_tasks: Store, tmp_path: Path):
    path, found = two_persons
    again = predictor(with_tasks, *TASKS, aligned=False).predict(path)
    for name in ("a.csv", "b.csv", "a.parquet", "b.parquet"):
        table = (found if name[0] == "a" else again).table
        assert write_tables(tmp_path / name, table.schema, [table]) == 46
    for ending in ("csv", "parquet"):
        pair = [(tmp_path / f"{name}.{ending}").read_bytes() for name in "ab"]
        assert pair[0] == pair[1]


def test_a_csv_file_restores_the_values_of_the_table(two_persons, tmp_path: Path):
    import pandas as pd

    table = two_persons[1].table
    write_tables(tmp_path / "x.csv", table.schema, [table])
    write_tables(tmp_path / "x.parquet", table.schema, [table])
    read = pd.read_csv(tmp_path / "x.csv")
    kept = pq.read_table(tmp_path / "x.parquet").to_pandas()
    assert list(read.columns) == list(kept.columns) == table.schema.names
    assert read["face"].dtype == bool
    for name in ("valence", "Neutral", "AU26"):
        np.testing.assert_array_equal(read[name].astype(np.float32), kept[name])
    np.testing.assert_allclose(read["left"], kept["left"], atol=0.006)


def test_thumbnails_are_few_and_small_however_long_the_video(with_tasks: Store, tmp_path: Path):
    from raffect.predict.persons import THUMBNAIL_SIZE, THUMBNAILS

    images = list(pictures([still(0, 0, 60)], 1, (150, 60))) * 200
    found = predictor(with_tasks, "va").predict(
        lossless(tmp_path / "l.mkv", images), thumbnails=True
    )
    kept = found.persons.found[0].thumbnails
    assert THUMBNAILS / 2 <= len(kept) <= THUMBNAILS
    assert {max(one.shape) for one in kept.values()} == {THUMBNAIL_SIZE}
    assert max(kept) > 180
