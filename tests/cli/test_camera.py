"""predict --camera as users type it: lines, JSON, a file of rows, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from raffect.affwild2.tasks import Task
from raffect.cli.camera import _View, signed_bar
from raffect.cli.screen import Screen
from raffect.predict.chosen import choose
from raffect.predict.live import LivePerson, LivePredictor, Pace
from raffect.predict.video import make_predictor
from raffect.store import Store
from raffect.video.camera import Arrival, open_camera
from raffect.video.faces import Face, VideoFrame
from tests.predict.stores import TASKS
from tests.video.videos import crossing, make_video, pictures, write_video

Tell = Callable[..., tuple[int, str, str]]


def crops(path: Path, frames: int) -> Path:
    """A video of aligned crops."""
    return write_video(
        path, pictures([crossing((0, 0, 112), (-30, -20, 160), frames)], frames, (112, 112))
    )


def test_a_file_is_shown_at_its_own_speed_and_told_as_lines(tell: Tell, tmp_path: Path):
    out = tmp_path / "live.csv"
    video = make_video(tmp_path / "face.mp4", frames=30)
    began = time.monotonic()
    code, printed, error = tell(*TASKS, "--camera", video, "--out", out)
    assert (code, error) == (0, "")
    assert time.monotonic() - began > 29 / 25
    lines = printed.splitlines()
    assert "Watching face.mp4; Ctrl-C ends it." in lines
    (shown,) = [line for line in lines if line.startswith("0.0 s  person 0: valence ")]
    assert ", arousal " in shown
    assert lines[-1] == f"{out} written."
    assert "delay" in lines[-2]
    assert "frames dropped." in lines[-2]
    rows = out.read_text().splitlines()
    assert rows[0].startswith("frame,time,person,face,confidence,valence,arousal,Neutral")
    assert rows[1].startswith("1,0.000000,0,true,0.")


def test_json_is_a_line_per_frame_with_its_delay(tell: Tell, tmp_path: Path):
    video = crops(tmp_path / "crops.mp4", 15)
    code, printed, error = tell("va", "au", "--camera", video, "--aligned", "--json")
    assert code == 0
    found = [json.loads(line) for line in printed.splitlines()]
    assert found[-1]["frame"] == 15
    assert len(found) + found[-1]["dropped"] == 15
    assert all(0 < one["delay"] < 60 for one in found)
    (person,) = found[-1]["persons"]
    assert set(person) == {"person", "face", "confidence", "box", "values"}
    assert list(person["values"])[:3] == ["valence", "arousal", "AU1"]
    assert error.startswith(f"Note: {len(found)} frames in ")


def test_a_stream_that_breaks_off_has_its_rows_and_says_so(tell: Tell, tmp_path: Path):
    video = crops(tmp_path / "cut.ts", 30)
    whole = video.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2 : len(whole) // 2 + 2000] = bytes(2000)
    video.write_bytes(damaged)
    out = tmp_path / "live.csv"
    code, printed, error = tell("va", "--camera", video, "--aligned", "--out", out)
    assert code == 2
    assert "cut.ts breaks off (" in error
    assert f"{out} written." in printed
    assert out.read_text().count("\n") > 1


REFUSED = [
    (["va", "--camera", "x.mp4", "--plot", "x.png"], "--plot can't be given here"),
    (["va", "--camera", "x.mp4", "--split", "validation"], "--split can't be given here"),
    (["va", "--camera", "x.mp4", "--video", "x.mp4"], "--video can't be given here"),
    (["va", "--camera", "x.mp4", "--out", "x.parquet"], ".parquet"),
    (["va", "--camera", "x.mp4"], "x.mp4 can't be read"),
    (["va", "--camera", "977"], "There is no camera /dev/video977."),
    (["va", "--split", "validation"], "predict needs --out."),
]


@pytest.mark.parametrize(("words", "told"), REFUSED)
def test_what_can_not_be_is_refused_in_one_message(
    tell: Tell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
):
    monkeypatch.chdir(tmp_path)
    code, printed, error = tell(*words)
    assert code == 2
    assert told in error
    assert error.startswith("Error: ")
    assert "Traceback" not in printed + error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("value", "bar"),
    [
        (0, " " * 12 + "│" + " " * 12),
        (0.5, " " * 12 + "│██████      "),
        (-1, "█" * 12 + "│" + " " * 12),
        (-0.26, " " * 9 + "███│" + " " * 12),
    ],
)
def test_bars_go_out_from_the_middle(value: float, bar: str):
    assert signed_bar(value) == bar


def test_the_screen_is_whole_at_80_columns(models: Store, tmp_path: Path):
    predictor = LivePredictor(make_predictor(models, choose(models, TASKS)))
    with open_camera(str(make_video(tmp_path / "x.mp4", frames=2))) as camera:
        view = _View(Screen(), predictor, camera, False)
        face = Face(np.array([0, 0, 9, 9], np.float32), 0.987)
        values = {
            Task.VA: np.array([-0.5, 0.25], np.float32),
            Task.EXPR: np.linspace(0, 1, 8, dtype=np.float32) / 4,
            Task.AU: np.full(12, 0.9, np.float32),
        }
        one = tuple(values[task] for task in predictor.chosen.tasks)
        persons = [LivePerson(0, face, one), LivePerson(1, None, one)]
        pace = Pace()
        frame = VideoFrame(2, 71.2, np.zeros((9, 9, 3), np.uint8))
        arrival = Arrival(frame, time.monotonic(), 0)
        view.show(arrival, persons, pace)
        console = Console(width=80, file=StringIO(), color_system=None)
        console.print(view.render())
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].rstrip() == "person 0  face 0.99"
    assert "person 1  not seen" in [line.rstrip() for line in lines]
    assert any("valence" in line and "-0.50" in line and "██████│" in line for line in lines)
    assert sum("AU1 AU2 AU4 AU6 AU7 AU10 AU12 AU15 AU23 AU24 AU25 AU26" in x for x in lines) == 2
    assert "frames/s, delay" in lines[0]


@pytest.fixture
def started(models: Store) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Commands in processes of their own, ended with the test."""
    running = []

    def start(*words: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "raffect", "predict", *map(str, words)]
        environment = {**os.environ, "RAFFECT_STORE": models.uri}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        running.append(subprocess.Popen(command, env=environment, text=True, **pipes))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()


@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_a_stop_leaves_whole_rows(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path, number: int, code: int
):
    out = tmp_path / "live.csv"
    video = crops(tmp_path / "long.mp4", 3000)
    process = started("va", "--camera", video, "--aligned", "--out", out)
    deadline = time.monotonic() + 120
    while not (out.exists() and out.read_bytes().count(b"\n") > 5):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    printed, told = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in told
    header, *rows = out.read_text().splitlines()
    assert out.read_bytes().endswith(b"\n")
    assert {row.count(",") for row in rows} == {header.count(",")}
    # What was shown is told on Ctrl-C and on a supervisor's stop.
    assert ("frames dropped." in printed) == (number != signal.SIGKILL)
