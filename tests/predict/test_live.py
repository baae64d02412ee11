"""Live values are those of the video so far; rows are whole as soon as they are there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.csv as pacsv
import pytest

from raffect.errors import DataError
from raffect.predict.chosen import choose
from raffect.predict.live import Delay, LivePredictor, LiveTable, Pace, named
from raffect.predict.table import schema_of
from raffect.predict.video import VideoPredictor, make_predictor
from raffect.store import Store
from raffect.video.camera import Arrival
from raffect.video.decode import open_video
from raffect.video.faces import FaceOptions, VideoFrame
from tests.predict.stores import TASKS
from tests.video.videos import crossing, pictures, still, write_video

FRAMES = 26
NEAR = 2e-3
"""Crops that are encoded alone have features of other last bits than in a batch, in float16."""


@pytest.fixture(scope="module")
def predictor(with_tasks: Store) -> VideoPredictor:
    return make_predictor(with_tasks, choose(with_tasks, TASKS))


def two_persons(path: Path, frames: int) -> Path:
    """One is there all the time but for some frames; the other comes later."""
    one = crossing((0, 60, 110), (40, 80, 120), FRAMES, hidden=range(12, 16))
    other = crossing((190, 60, 110), (170, 40, 120), FRAMES, hidden=range(9), mirrored=True)
    images = list(pictures([one, other], frames))
    return write_video(path, iter(images), codec="ffv1", pixels="bgr0")


def test_each_person_has_the_values_of_the_last_frame_of_the_video_so_far(
    predictor: VideoPredictor, tmp_path: Path
):
    live = LivePredictor(predictor)
    told = {}
    with open_video(two_persons(tmp_path / "whole.mkv", FRAMES)) as video:
        for frame in video.frames():
            told[frame.number] = {one.person: one for one in live.predict(frame)}
    assert [len(told[number]) for number in (1, 9, 10, 14, FRAMES)] == [1, 1, 2, 2, 2]
    assert told[14][0].face is None
    for end in (12, FRAMES):
        table = predictor.predict(two_persons(tmp_path / f"{end}.mkv", end)).table.to_pandas()
        for person, rows in table.groupby("person"):
            last, one = rows.iloc[-1], told[end][person]
            assert last["frame"] == end
            for column, value in named(predictor.chosen, one):
                assert value == pytest.approx(last[column], abs=NEAR)
            assert one.face is not None
            assert one.face.box[0] == pytest.approx(last["left"], abs=1e-3)


def test_the_face_of_one_person_alone_is_wanted(predictor: VideoPredictor, tmp_path: Path):
    only = VideoPredictor(predictor.chosen, predictor.encoders, predictor.detector, (1,))
    live = LivePredictor(only)
    with open_video(two_persons(tmp_path / "x.mkv", 12)) as video:
        found = [{one.person for one in live.predict(frame)} for frame in video.frames()]
    assert found == [set()] * 9 + [{1}] * 3


def test_who_is_away_for_seconds_is_forgotten(predictor: VideoPredictor):
    live = LivePredictor(predictor)
    (picture,) = pictures([still(100, 60)], 1)
    assert [one.person for one in live.predict(VideoFrame(1, 0.0, picture))] == [0]
    (nobody,) = pictures([], 1)
    assert [one.face for one in live.predict(VideoFrame(2, 4.9, nobody))] == [None]
    assert live.predict(VideoFrame(3, 5.2, nobody)) == []
    assert [one.person for one in live.predict(VideoFrame(4, 5.3, picture))] == [1]


def test_frames_that_are_crops_need_no_detector(with_tasks: Store):
    live = LivePredictor(
        make_predictor(with_tasks, choose(with_tasks, ["va"]), FaceOptions(aligned=True))
    )
    live.warm_up()
    (picture,) = pictures([still(0, 0, 112)], 1, (112, 112))
    (one,) = live.predict(VideoFrame(1, 0.0, picture))
    assert one.face is not None
    assert live.to_json(one) == {
        "person": 0,
        "face": True,
        "confidence": None,
        "box": [0.0, 0.0, 112.0, 112.0],
        "values": {name: round(value, 6) for name, value in named(live.chosen, one)},
    }


def test_rows_are_in_the_file_as_soon_as_they_are_written(
    predictor: VideoPredictor, tmp_path: Path
):
    live, path = LivePredictor(predictor), tmp_path / "new" / "x.csv"
    video = two_persons(tmp_path / "x.mkv", 14)
    count = 0
    with open_video(video) as opened, LiveTable(path, predictor.chosen) as table:
        assert path.read_text().count("\n") == 1
        for frame in opened.frames():
            persons = live.predict(frame)
            table.write(frame, persons)
            count += len(persons)
            text = path.read_text()
            assert text.endswith("\n")
            assert text.count("\n") == 1 + count
    types = schema_of(predictor.chosen)
    found = pacsv.read_csv(
        path,
        convert_options=pacsv.ConvertOptions(
            column_types=dict(zip(types.names, types.types, strict=True))
        ),
    )
    assert found.schema == types
    last = found.to_pylist()[-2:]
    assert [row["face"] for row in last] == [False, True]
    assert (last[0]["left"], last[0]["confidence"]) == (None, None)
    for row, one in zip(last, persons, strict=True):
        assert row["frame"] == 14
        for column, value in named(predictor.chosen, one):
            assert row[column] == np.float32(value)


def test_a_file_that_can_not_be_written_is_one_message(predictor: VideoPredictor):
    with (
        pytest.raises(DataError, match=r"/dev/full can't be written: "),
        LiveTable(Path("/dev/full"), predictor.chosen),
    ):
        pass


def test_the_pace_is_that_of_the_frames_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    clock = [100.0]
    monkeypatch.setattr("raffect.predict.live.time.monotonic", lambda: clock[0])
    pace = Pace()
    assert (pace.rate, pace.delay()) == (0, Delay(0, 0))
    frame = VideoFrame(1, 0.0, np.zeros((1, 1, 3), np.uint8))
    for _ in range(100):
        clock[0] += 0.1
        pace.shown(Arrival(frame, clock[0] - 0.05, 0))
    clock[0] += 0.1
    pace.shown(Arrival(frame, clock[0] - 0.25, 0))
    assert pace.frames == 101
    assert pace.seconds == pytest.approx(10.1)
    assert pace.rate == pytest.approx(10, rel=0.1)
    assert pace.delay().median == pytest.approx(50, rel=1e-3)
    clock[0] += 3
    assert pace.silence == pytest.approx(3)
