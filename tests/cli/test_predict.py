"""predict --video as a user types it: outputs, refusals, folders that go on, broken videos."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import raffect
from raffect.store import Store
from tests.video.videos import crossing, make_video, pictures, write_video

Tell = Callable[..., tuple[int, str, str]]
CROP = (112, 112)


def crops(path: Path, frames: int = 12, shift: int = 0) -> Path:
    """A video of aligned crops, lossless where it is an mkv."""
    actor = crossing((-shift, 0, 112), (-30 - shift, -20, 160), frames)
    codec = ("ffv1", "bgr0") if path.suffix == ".mkv" else ("libx264", "yuv420p")
    images = pictures([actor], frames, CROP)
    return write_video(path, images, codec=codec[0], pixels=codec[1])


def cut_off(path: Path) -> Path:
    """A video whose file ends too early."""
    whole = crops(path, 60).read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    return path


def test_one_table_plot_and_overlay_come_of_one_video(tell: Tell, tmp_path: Path) -> None:
    video = crops(tmp_path / "clip.mkv", 30)
    out, plot, overlay = (tmp_path / name for name in ("t.csv", "t.png", "t.mp4"))
    words = ("va", "expr", "au", "--video", video, "--aligned", "--out", out)
    code, printed, told = tell(*words, "--plot", plot, "--overlay", overlay, "--json")
    assert (code, told) == (0, "")
    found = json.loads(printed)
    assert found["rows"] == 30
    assert found["faces"] == {"detector": None}
    assert found["videos"][0]["persons"] == [{"person": 0, "first": 1, "last": 30, "faces": 30}]
    assert pd.read_csv(out).shape == (30, 5 + 2 + 8 + 12 + 4)
    assert plot.read_bytes()[:4] == b"\x89PNG"
    assert overlay.stat().st_size > 1000
    table = out.read_bytes()
    words = ("--model", "va", "--model", "expr", "--model", "au", *words[3:])
    code, printed, told = tell(*words, "--quiet")
    assert (code, printed, told) == (0, "", "")
    assert out.read_bytes() == table


def test_python_gives_the_table_of_the_command(tell: Tell, models: Store, tmp_path: Path) -> None:
    video = make_video(tmp_path / "one.mp4", frames=12)
    out = tmp_path / "t.parquet"
    code, printed, _ = tell("va", "--video", video, "--out", out)
    assert code == 0
    assert "Faces: CenterFace" in printed
    assert "1 person: 0 in 12 of 12 frames" in printed
    model = raffect.load_model(models.uri, "va")
    table = model.predict(video=video)
    assert table.index.names == ["person", "frame"]
    expected = pd.read_parquet(out).set_index(["person", "frame"])
    pd.testing.assert_frame_equal(table, expected)
    broken = cut_off(tmp_path / "cut.mkv")
    with pytest.warns(UserWarning, match="breaks off"):
        assert 0 < len(model.predict(video=broken, aligned=True)) < 60


def test_a_folder_goes_on_where_it_was_and_gives_the_same_bytes(
    tell: Tell, tmp_path: Path
) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    for shift, name in enumerate(("b.mkv", "a,1.mkv", "c.mkv")):
        crops(folder / name, 12 + shift, shift)
    (folder / "notes.txt").write_text("x")
    (folder / "more").mkdir()
    out = tmp_path / "t.csv"
    words = ("va", "--video", folder, "--aligned", "--out", out)
    code, printed, _ = tell(*words)
    assert code == 0
    assert "Skipped, as no videos by their ending: more, notes.txt" in printed
    table = pd.read_csv(out)
    assert table.groupby("video", sort=False).size().to_dict() == {
        "a,1.mkv": 13, "b.mkv": 12, "c.mkv": 14,
    }  # fmt: skip
    first = out.read_bytes()
    parts = sorted((tmp_path / "t.csv.parts").iterdir())
    assert len(parts) == 3
    made = {part: part.stat().st_mtime_ns for part in parts}
    parts[1].write_bytes(parts[1].read_bytes()[:-100])
    out.unlink()
    code, printed, _ = tell(*words)
    assert "2 of 3 videos were finished before" in printed
    assert out.read_bytes() == first
    kept = [part for part in parts if part.stat().st_mtime_ns == made[part]]
    assert kept == [parts[0], parts[2]]
    crops(folder / "c.mkv", 20)
    assert "2 of 3 videos were" in tell(*words)[1]
    assert len(pd.read_csv(out)) == 13 + 12 + 20
    for change in (["--raw"], ["--person", "0"]):
        again = tell(*words, *change)[1]
        # A model without post-processing is the same with --raw.
        assert ("3 of 3 videos were" in again) == (change == ["--raw"])
    assert "finished before" not in tell("mine", *words[1:])[1]


def test_names_that_are_no_text_are_written_as_text(tell: Tell, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    names = [b"bad\xff.mkv", rb"bad\xff.mkv", b"new\nline.mkv", "🎬".encode() * 60 + b".mkv"]
    for shift, name in enumerate(names):
        whole = crops(tmp_path / "x.mkv", 3 + shift, shift)
        whole.rename(folder / os.fsdecode(name))
    out = folder / "t.csv"
    words = ("va", "--video", folder, "--aligned", "--out", out)
    for before in (0, 4):
        code, printed, told = tell(*words)
        assert (code, told) == (0, "")
        assert (f"{before} of 4 videos were" in printed) == (before == 4)
        assert "Skipped" not in printed
        assert sorted(pd.read_csv(out)["video"].value_counts()) == [5, 6, 7]


def test_one_broken_video_of_many_is_told_and_the_others_go_on(tell: Tell, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    crops(folder / "b.mkv")
    (folder / "a.mp4").write_bytes(b"no video" * 99)
    cut_off(folder / "c.mkv")
    out = tmp_path / "t.csv"
    words = ("va", "--video", folder, "--aligned", "--out", out)
    for _ in range(2):
        code, _, told = tell(*words)
        assert code == 2
        assert told.startswith("Error: 2 of 3 videos are not whole:")
        assert "a.mp4" in told
        assert "c.mkv breaks off after" in told
        assert set(pd.read_csv(out)["video"]) == {"b.mkv", "c.mkv"}
    code, printed, told = tell(*words, "--lenient", "--json")
    assert (code, told[:6]) == (0, "Note: ")
    assert set(json.loads(printed)["failed"]) == {"a.mp4"}
    (folder / "b.mkv").unlink()
    (folder / "c.mkv").unlink()
    code, _, told = tell(*words, "--lenient")
    assert code == 2
    assert "None of the 1 videos" in told


def test_a_video_that_breaks_off_has_the_rows_that_could_be_read(
    tell: Tell, tmp_path: Path
) -> None:
    video, out = cut_off(tmp_path / "c.mkv"), tmp_path / "t.csv"
    words = ("va", "--video", video, "--aligned", "--out", out)
    code, _, told = tell(*words)
    rows = len(pd.read_csv(out))
    assert code == 2
    assert 0 < rows < 60
    assert f"c.mkv breaks off after {rows} frames" in told
    assert f"{out} has the {rows} rows that there are. --lenient" in told
    assert tell(*words, "--lenient")[0] == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["va", "--out", "t.csv"], "takes one of --frames, --split, --example and --video"),
        (["va", "--out", "t.csv", "--split", "validation", "--plot", "p.png"], "--plot can't be"),
        (["va", "--out", "t.csv", "--video", "x", "--split", "train"], "--split can't be given"),
        (["va", "au", "--out", "t.csv", "--split", "train"], "is of one model; got va, au"),
        (["va", "va", "--out", "t.csv", "--video", "clip.mkv"], "named twice: models/va"),
        (["va", "--out", "t.xlsx", "--video", "clip.mkv"], "the ending .xlsx"),
        (["va", "--out", "t.csv", "--video", "clip.mkv", "--plot", "p.jpg"], "the ending .jpg"),
        (["va", "--out", "t.csv", "--video", "clip.mkv", "--overlay", "o"], "no ending"),
        (["va", "--out", "t.csv", "--video", ".", "--plot", "p.png"], "--plot shows one video"),
        (["va", "--out", "t.csv", "--video", "clip.mkv", "--overlay", "t.csv"], "the ending .csv"),
        (["va", "--out", "clip.mkv/t.csv", "--video", "clip.mkv"], "clip.mkv is no folder"),
        (
            ["va", "--out", "t.csv", "--video", "o.mp4", "--overlay", "o.mp4"],
            "--overlay and --video are the same file",
        ),
        (
            ["va", "--out", "t.csv", "--video", "clip.mkv", "--aligned", "--detector", "d.onnx"],
            "--aligned takes the frames as crops",
        ),
        (
            ["va", "--out", "t.csv", "--video", "clip.mkv", "--aligned", "--detect-at", "96"],
            "and --detect-at looks for faces",
        ),
        (
            ["va", "--out", "t.csv", "--video", "clip.mkv", "--first-frame", "0"],
            "--first-frame can't be given here",
        ),
        (["va", "--out", "t.csv", "--video", "none.mp4"], "none.mp4"),
        (["va", "--out", "t.csv", "--video", "empty", "--aligned"], "empty holds no video"),
        (["va", "--out", "t.csv", "--video", "notes.txt", "--aligned"], "notes.txt can't be used"),
        (["no", "--out", "t.csv", "--video", "clip.mkv"], "no model and no sweep 'no'"),
        (
            ["va", "--out", "t.csv", "--video", "clip.mkv", "--aligned", "--person", "3"],
            "clip.mkv has no person 3",
        ),
    ],
)
def test_what_can_not_be_is_refused_in_one_message(
    tell: Tell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    crops(Path("clip.mkv"), 3)
    Path("notes.txt").write_text("hello\n")
    Path("empty").mkdir()
    code, printed, error = tell(*words)
    assert code == 2
    assert told in error
    assert error.startswith("Error: ")
    assert "Traceback" not in error + printed
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "store") == [
        "clip.mkv", "empty", "notes.txt",
    ]  # fmt: skip


@pytest.fixture
def started(models: Store) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Commands in processes of their own, ended with the test."""
    running = []

    def start(*words: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "raffect", "predict", *map(str, words)]
        environment = {**os.environ, "RAFFECT_STORE": models.uri}
        running.append(
            subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        )
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()


@pytest.mark.long
def test_a_folder_that_was_interrupted_goes_on(
    started: Callable[..., subprocess.Popen[str]], tell: Tell, tmp_path: Path
) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(3):
        crops(folder / f"{number}.mkv", 400, number)
    out = tmp_path / "t.csv"
    words = ("va", "--video", folder, "--aligned", "--out", out)
    process = started(*words)
    parts = tmp_path / "t.csv.parts"
    deadline = time.monotonic() + 120
    while not list(parts.glob("[0-9]*.parquet")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in told
    done = list(parts.iterdir())
    assert 0 < len(done) < 3
    assert not out.exists()
    code, printed, _ = tell(*words)
    assert code == 0
    assert f"{len(done)} of 3 videos were finished before" in printed
    tell("va", "--video", folder, "--aligned", "--out", tmp_path / "again.csv")
    assert out.read_bytes() == (tmp_path / "again.csv").read_bytes()
    assert np.isfinite(pd.read_csv(out)["valence"]).all()
