"""The crops of one video's folder as features: what is read, what is left out, what is refused."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raffect.clip.encoder import FrameEncoder, build_encoder
from raffect.clip.encoding import encode_crops
from raffect.clip.folder import encode_folder, find_crops
from raffect.config import ExtractConfig
from raffect.errors import DataError, NotThereError
from raffect.store import Store
from raffect.store.raw import RawFolder
from tests.clip.clip_data import crop, tiny_config


@pytest.fixture(scope="module")
def encoder() -> FrameEncoder:
    return build_encoder(tiny_config().encoder).eval()


def raw(folder: Path | str) -> RawFolder:
    return RawFolder.of(folder, "--frames")


def crops_of(frames: list[int]) -> dict[int, bytes]:
    rng = np.random.default_rng(0)
    return {frame: crop(frame % 8, rng) for frame in frames}


def write(folder: Path, crops: dict[int, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for frame, data in crops.items():
        (folder / f"{frame:05d}.jpg").write_bytes(data)
    return folder


def test_crops_are_encoded_in_order_of_frames_whatever_lies_beside_them(
    tmp_path: Path, encoder: FrameEncoder
):
    crops = crops_of([3, 1, 100002, 5, 6])
    folder = write(tmp_path / "v", crops)
    write(folder, {2: b"no image", 4: b"", 9: crops[3][:900]})
    (folder / "00007.jpg").mkdir()
    (folder / "00008.jpg").symlink_to("/nowhere/00008.jpg")
    (folder / "00010.jpg").symlink_to("00010.jpg")
    os.mkfifo(folder / "00011.jpg")
    Image.new("L", (14000, 14000), 90).save(folder / "00012.jpg", quality=5)
    (folder / "cover.jpg").write_bytes(crops[3])
    (folder / "999999999.jpg").write_bytes(crops[3])
    for name in ("._00001.jpg", ".DS_Store", "Thumbs.db"):
        (folder / name).write_bytes(b"\0\5\x16\7")
    skipped: list[str] = []
    frames, features = encode_folder(
        encoder, raw(folder), None, skipped, ExtractConfig(batch_size=2)
    )
    assert frames.tolist() == [1, 3, 5, 6, 100002]
    expected = encode_crops(
        encoder, [crops[n] for n in frames.tolist()], ExtractConfig(batch_size=2)
    )
    np.testing.assert_array_equal(features, expected)
    why = {line.partition(":")[0]: line.partition(": ")[2] for line in skipped}
    assert set(why) == {
        "00002.jpg", "00004.jpg", "00007.jpg", "00008.jpg and 1 more", "00009.jpg", "00011.jpg",
        "00012.jpg", "999999999.jpg", "cover.jpg",
    }  # fmt: skip
    assert "folder" in why["00007.jpg"]
    assert "link" in why["00008.jpg and 1 more"]
    assert "pixels" in why["00012.jpg"]


def test_each_crop_is_read_and_decoded_once(
    tmp_path: Path, encoder: FrameEncoder, monkeypatch: pytest.MonkeyPatch
):
    from raffect.clip import folder as module

    folder = write(tmp_path / "v", crops_of([*range(1, 31)]))
    real, calls = module.decode, []
    monkeypatch.setattr(module, "decode", lambda *given: calls.append(1) or real(*given))
    told: list[tuple[int, int]] = []
    config = ExtractConfig(batch_size=8)
    encode_folder(encoder, raw(folder), None, None, config, lambda *counts: told.append(counts))
    assert len(calls) == 30
    assert told == [(8, 30), (16, 30), (24, 30), (30, 30)]


def test_a_long_video_takes_no_more_memory_than_its_batches(tmp_path: Path, encoder: FrameEncoder):
    """600 crops of 100 KB; all at once would be 60 MB, and a batch with what is ahead is 5."""
    noise = np.random.default_rng(0).integers(0, 256, (180, 180, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.bmp")
    folder = write(
        tmp_path / "v", dict.fromkeys(range(1, 601), (tmp_path / "noise.bmp").read_bytes())
    )
    tracemalloc.start()
    encode_folder(encoder, raw(folder), None, None, ExtractConfig(batch_size=16))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


@pytest.mark.parametrize("name", ["{:05d}.JPG", "frame_{:06d}.jpeg", "{}.png", "{:05d}.webp"])
def test_names_are_those_that_prepare_takes(tmp_path: Path, name: str):
    for frame in (1, 2, 12):
        (tmp_path / name.format(frame)).write_bytes(b"x")
    assert find_crops(raw(tmp_path)).frames.tolist() == [1, 2, 12]


def test_frames_that_count_from_0_are_refused_until_it_is_said(tmp_path: Path):
    write(tmp_path, crops_of([0, 1, 2]))
    with pytest.raises(DataError, match="--first-frame 0"):
        find_crops(raw(tmp_path))
    assert find_crops(raw(tmp_path), 0).frames.tolist() == [1, 2, 3]


def test_what_is_no_folder_of_a_videos_crops_is_refused(tmp_path: Path, encoder: FrameEncoder):
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(DataError, match="no crop"):
        find_crops(raw(root))
    (root / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"notes\.txt"):
        find_crops(raw(root))
    write(root / "video1", crops_of([1]))
    with pytest.raises(DataError, match=r"one video's folder, e.g. --frames .*/root/video1$"):
        find_crops(raw(root))
    with pytest.raises(NotThereError, match=r"absent does not exist"):
        find_crops(raw(root / "absent"))
    with pytest.raises(NotThereError, match=r"txt is a file"):
        find_crops(raw(root / "notes.txt"))
    write(root / "bad", {1: b"x", 2: b""})
    with pytest.raises(DataError, match=r"no crop that can be read; skipped: 00001\.jpg"):
        encode_folder(encoder, raw(root / "bad"))


@pytest.mark.parametrize("names", ["2024051812{:04d}.jpg", "171602{:04d}.jpg"])
def test_dates_and_times_are_no_frames(tmp_path: Path, names: str):
    for n in (1, 2):
        (tmp_path / names.format(n)).write_bytes(b"x")
    with pytest.raises(DataError, match=r"and 1 more: a date or time: number above 10,000,000"):
        find_crops(raw(tmp_path))


def test_a_stray_far_frame_is_refused_before_millions_of_rows(tmp_path: Path):
    write(tmp_path, crops_of([1, 2, 1716020]))
    with pytest.raises(DataError, match=r"Rename or remove 1716020\.jpg"):
        find_crops(raw(tmp_path))


@pytest.mark.parametrize("name", ["a,b", "a\nb", b"a\xff".decode("utf-8", "surrogateescape")])
def test_a_name_that_a_predictions_file_can_not_hold_is_refused(tmp_path: Path, name: str):
    folder = write(tmp_path / name, crops_of([1]))
    with pytest.raises(DataError, match="can't be a video's name") as caught:
        find_crops(raw(folder))
    str(caught.value).encode()


@pytest.mark.parametrize("typed", [".", "../v", "./", "../v/."])
def test_a_videos_name_is_that_of_its_folder_however_it_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str
):
    monkeypatch.chdir(write(tmp_path / "v", crops_of([1])))
    assert raw(typed).name == "v"


def test_a_bucket_is_read_like_a_folder(tmp_path: Path, s3_store: Store, encoder: FrameEncoder):
    """Under a name of every odd character; a crop that goes after it was listed is left out."""
    name, crops = "video 9 [50%]? #1 *", crops_of([*range(2, 22), 40])
    local = raw(write(tmp_path / name, crops))
    s3_store.filesystem.pipe(
        {s3_store.path(f"{name}/{n:05d}.jpg"): data for n, data in crops.items()}
    )
    bucket = raw(s3_store.where(f"{name}/"))
    assert bucket.name == local.name == name
    for one, other in zip(
        encode_folder(encoder, local), encode_folder(encoder, bucket), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    found = find_crops(bucket)
    s3_store.delete(f"{name}/00003.jpg")
    skipped: list[str] = []
    frames, _ = encode_folder(encoder, bucket, found, skipped)
    assert frames.tolist() == [2, *range(4, 22), 40]
    assert [line.partition(":")[0] for line in skipped] == ["00003.jpg"]
    with pytest.raises(NotThereError, match=r"s3://.*/none/ does not exist, or nothing"):
        find_crops(raw(s3_store.where("none/")))
    with pytest.raises(DataError, match=r"e.g. --frames 's3://"):
        find_crops(raw(s3_store.uri))
